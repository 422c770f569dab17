"""The updates of a training step as one CUDA graph: the processor launches one thing a step, not two
thousand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

WARM_UP = 3  # updates before the graph is captured: PyTorch asks for some, on a stream of their own


class GraphedUpdates:
    """Calls `update` on what a step drew: the first WARM_UP times as it stands, then from a graph of it.

    update: takes tuples of tensors of always the same shapes, changes the networks' weights and the
    optimisers (capturable ones) and returns tensors. networks: whose buffers `update` may replace by new ones
    (`SpectralNorm` does), which a graph must find in the old place. What a call returns is overwritten by the
    next. After PyTorch's notes on CUDA graphs, "whole-network capture".
    """

    def __init__(self, update: Callable[..., tuple[Tensor, ...]], *networks: nn.Module):
        self.update, self.networks = update, networks
        self.seen = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *drawn: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The update on `drawn`. Returns what `update` does."""
        self.seen += 1
        if self.seen <= WARM_UP:
            return self._beside(*drawn)
        if self.graph is None:
            self._capture(*drawn)
        for held, new in zip(self.inputs, drawn, strict=True):
            for place, tensor in zip(held, new, strict=True):
                place.copy_(tensor, non_blocking=True)
        self.graph.replay()
        return self.outputs

    def _beside(self, *drawn: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The update as it stands, on a stream beside the present one."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            seen = self.update(*drawn)
        torch.cuda.current_stream().wait_stream(stream)
        return seen

    def _capture(self, *drawn: tuple[Tensor, ...]) -> None:
        """Record the update without running it."""
        self.inputs = [tuple(tensor.clone() for tensor in update) for update in drawn]
        places = [
            (module, name, buffer)
            for network in self.networks
            for module in network.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = self.update(*self.inputs)
            for module, name, buffer in places:
                new = getattr(module, name)
                if new is not buffer:
                    buffer.copy_(new)
        for module, name, buffer in places:
            setattr(module, name, buffer)
