"""Images: where they come from, the embedded shapes, sheets of pictures."""
