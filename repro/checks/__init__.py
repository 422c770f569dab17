"""What is checked and measured."""
