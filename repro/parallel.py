"""One run on several devices of a machine: data parallel with torch.distributed, every device (rank) a
process with its share of the batch.

Without a process group each function here is what one process does alone, so that one loop serves both. All
ranks draw the same random numbers for the whole batch and take their part; what they compute from the same
weights is the same on each of them.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from . import runs
from .errors import ReproError

log = logging.getLogger(__name__)

T = TypeVar("T")
# of a collective: longer than the first rank takes to score 50,000 samples, while the others wait
TIMEOUT = timedelta(hours=2)


_alone = False  # in `on_first`, where the others wait


def device() -> str:
    """Where networks compute: "cuda" on a machine with a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def ranks() -> int:
    """How many processes train this run together; one where the first works alone (`on_first`)."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(whole: Tensor) -> Tensor:
    """The part of a batch (B, ...) that this rank takes: (B / ranks, ...).

    Also while the first rank works alone: a thread draws the next batch meanwhile.
    """
    return whole.chunk(dist.get_world_size() if dist.is_initialized() else 1)[rank()]


def wrap(network: nn.Module) -> nn.Module:
    """The network as it is trained: its gradients are averaged over the ranks while they are computed.

    Buffers are left alone: power-iteration vectors follow from equal weights, batch norm's averages see to
    themselves.
    """
    if ranks() == 1:
        return network
    known = inspect.signature(DistributedDataParallel).parameters
    # before PyTorch 2.14
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DistributedDataParallel(network, **{name: False})


def unwrap(network: nn.Module) -> nn.Module:
    """The network without what `wrap` and torch.compile put around it."""
    network = network.module if isinstance(network, DistributedDataParallel) else network
    return getattr(network, "_orig_mod", network)


def is_compiled(network: nn.Module) -> bool:
    """Whether torch.compile made it."""
    return hasattr(network.module if isinstance(network, DistributedDataParallel) else network, "_orig_mod")


def average_gradients(network: nn.Module) -> None:
    """What `wrap` does in backward, afterwards: for losses without some of the weights, which
    DistributedDataParallel does not take.
    """
    for weight in network.parameters():
        if ranks() > 1 and weight.grad is not None:
            dist.all_reduce(weight.grad)
            weight.grad /= ranks()


class _Mean(torch.autograd.Function):
    """The mean over ranks, whose gradient is the mean over ranks of the gradients."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x.div_(ranks())

    backward = forward


def mean(x: Tensor) -> Tensor:
    """The mean of equally shaped tensors over the ranks; it can be differentiated."""
    return _Mean.apply(x) if ranks() > 1 else x


def any_of(*flags: bool) -> tuple[bool, ...]:
    """For each flag whether it is set on any rank, so that all do the same at the same step. The device is
    not waited for.
    """
    if ranks() == 1:
        return flags
    asked = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(asked, dist.ReduceOp.MAX)
    return tuple(asked.bool().tolist())


def on_first(call: Callable[[], T]) -> T:
    """Have the first rank alone run `call` while the others wait. Returns its value on every rank, or raises
    its exception there.
    """
    if ranks() == 1:
        return call()
    outcome = [None, None]
    global _alone
    if rank() == 0:
        _alone = True
        try:
            outcome[0] = call()
        except Exception as error:
            outcome[1] = error
        finally:
            _alone = False
    dist.broadcast_object_list(outcome, device=torch.device("cpu"))
    value, error = outcome
    if error is not None:
        raise error
    return value


def launch(devices: int, call: Callable[..., T], *arguments) -> T:
    """`call(*arguments)` in as many processes as `devices` (GPUs where this machine has any), joined in one
    process group.

    Returns what the first returned. Raises what `call` raised of ReproError, OSError and runs.Interrupted,
    and runs.RankDied when a process ended on its own: the others are then ended too
    (torch.distributed.elastic, as torchrun does it).
    """
    if devices == 1:
        return call(*arguments)
    present = torch.cuda.device_count()
    if 0 < present < devices:
        raise ReproError(
            f"--devices is {devices} and this machine has {present} GPU(s): ask for at most {present}."
        )
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what went wrong is said below
    try:
        with tempfile.TemporaryDirectory(prefix="repro-") as folder:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=devices,
                run_id="repro",
                rdzv_backend="c10d",
                rdzv_endpoint="127.0.0.1:0",
                local_addr="127.0.0.1",
                max_restarts=0,
                monitor_interval=0.2,
                logs_specs=DefaultLogsSpecs(log_dir=folder),
            )
            value, error = elastic_launch(config, _rank)(call, arguments)[0]
    except SignalException as stop:
        raise runs.Interrupted("Stopped with a checkpoint; the same command continues.") from stop
    except ChildFailedError as failed:
        first, failure = failed.get_first_failure()
        raise runs.RankDied(
            f"Process {first} of {devices} ended with exit code {failure.exitcode}{_reason(failure)}, so the"
            " others were ended: the same command continues from the last checkpoint."
        ) from failed
    if error is not None:
        raise error
    return value


def _reason(failure) -> str:
    """The exception of a process that raised one; its traceback goes to the log."""
    if not isinstance(failure.message, dict):
        return ""
    log.error("%s", failure.message["extraInfo"]["py_callstack"])
    return f" ({failure.message['message']})"


def _rank(call: Callable[..., T], arguments: tuple) -> tuple[T | None, Exception | None]:
    """The main function of each process. Exceptions that a person can mend are its value: a process that
    raises has crashed.
    """
    place, cuda = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available()
    level = logging.INFO if place == 0 else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    if cuda:
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    try:
        return call(*arguments), None
    except (ReproError, OSError, runs.Interrupted) as error:
        return None, error
    finally:
        dist.destroy_process_group()
