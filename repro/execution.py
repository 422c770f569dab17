"""How a run is computed, whatever it computes: none of this enters its configuration, the record has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """devices: GPUs, or processes of a CPU, that share a run (data parallel); compiled: by torch.compile,
    which takes minutes to start and computes with other last digits; graphed: each step as one CUDA graph, on
    one GPU; accumulate: parts in which a batch passes through the networks, for batches larger than memory.
    """

    devices: int = 1
    compiled: bool = False
    graphed: bool = False
    accumulate: int = 1

    @classmethod
    def recorded(cls, made: dict) -> Execution:
        """How a run was computed, by its record's provenance; what an old record does not name was off."""
        names = ("devices", "compiled", "cuda_graphs", "accumulate")
        return cls(*(made.get(name) or off for name, off in zip(names, (1, False, False, 1), strict=True)))

    @property
    def options(self) -> list[str]:
        """Of the command `repro train`."""
        return [
            *(["--devices", str(self.devices)] if self.devices > 1 else []),
            *(["--compile"] if self.compiled else []),
            *(["--cuda-graphs"] if self.graphed else []),
            *(["--accumulate", str(self.accumulate)] if self.accumulate > 1 else []),
        ]


PLAIN = Execution()
