"""Training: one loop, top to bottom. It resumes from its checkpoint, and everything random in it follows from
seed and step.
"""

from __future__ import annotations

import logging
import math
import signal
import time

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from .. import parallel, provenance, runs
from ..config import Config
from ..data import sheets
from ..data.images import Batches, ImageData
from ..errors import ReproError
from ..execution import PLAIN, Execution
from ..networks.resnet import build, gammas
from ..scoring import attention
from ..scoring.neighbours import nearest_training_images
from ..scoring.sampling import interpolations, sample
from ..scoring.scorer import Scorer
from .averages import average_lag, make_averages, with_own_statistics
from .checkpoint import keep_best, new_record, restore, write_checkpoint
from .draws import prefetched
from .graphs import GraphedUpdates
from .stop import StopRequest, claim, collapse
from .updates import check_parts, make_optimisers, native_precision, set_up_gpu, update_d, update_g

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60  # between checkpoints, at least,
CHECKPOINT_SHARE = 0.02  # and so much more that writing them takes this share of the time at most
NEIGHBOURS = 10  # samples shown beside their nearest training images: one of each of the first classes


def train(
    config: Config,
    data: ImageData,
    run: runs.Run,
    row: str,
    max_minutes: float = math.inf,
    execution: Execution = PLAIN,
) -> dict:
    """Train and score one run, from its checkpoint if it has one. Returns the record that stands in run.json.

    SIGINT, SIGTERM and the time limit end it at the next step with a checkpoint (raises runs.Interrupted); a
    signal also ends a score in its middle, which begins anew when the run goes on. A second process on the
    same folder waits for the first. Raises ReproError when the folder holds another configuration or its
    checkpoint cannot be used.

    In a process group (parallel.launch) every rank calls this; the first one reads, scores and writes.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    stop = StopRequest(max_minutes)
    before = {s: signal.signal(s, stop.hear) for s in (signal.SIGINT, signal.SIGTERM)}
    lock = FileLock(run.folder / ".lock")

    def begin() -> dict | None:
        claim(lock, run, stop)
        return run.check_same(config)

    try:
        record = parallel.on_first(begin)
        if record is not None and record["status"] in runs.FINISHED:
            return record
        return Training(config, data, run, row, stop, execution).to_the_end()
    finally:
        lock.release()
        for s, handler in before.items():
            signal.signal(s, handler)


class Training:
    """A run under way: its networks, optimisers, averages and record, as the newest checkpoint has them or
    new.

    Raises ReproError when the batch does not split into equal parts, when CUDA graphs or parts of a batch are
    asked for where they cannot be, or when the checkpoint cannot be used.
    """

    def __init__(
        self,
        config: Config,
        data: ImageData,
        run: runs.Run,
        row: str,
        stop: StopRequest,
        execution: Execution,
    ):
        self.config, self.data, self.run, self.stop, self.execution = config, data, run, stop, execution
        self.preset = preset = config.preset
        self.device = parallel.device()
        self.precision = native_precision(preset.precision)
        torch.set_num_threads(preset.threads)
        if preset.batch_size % parallel.ranks():
            raise ReproError(
                f"A batch of {preset.batch_size} does not split into {parallel.ranks()} equal parts: choose"
                " --devices so that it does."
            )
        check_parts(config, execution)
        if execution.graphed and (self.device != "cuda" or execution != Execution(graphed=True)):
            raise ReproError(
                "--cuda-graphs needs a GPU, and goes without --devices, --compile and --accumulate: leave the"
                " option out."
            )
        set_up_gpu()
        self.g, self.d = (network.to(self.device) for network in build(config))
        self.g.train(), self.d.train()
        self.optimiser_g, self.optimiser_d = make_optimisers(config, self.g, self.d, execution.graphed)
        self.ema, self.shadow = make_averages(config, self.g)
        # what a checkpoint holds the state of
        self.modules = {
            "g": self.g,
            "d": self.d,
            "optimiser_g": self.optimiser_g,
            "optimiser_d": self.optimiser_d,
            "shadow": self.shadow,
        } | ({"ema": self.ema} if self.ema else {})
        self.record = new_record(config, data, row, self.modules, self._made_with())
        restore(run, config, self.modules, self.record, self.precision)

    def _made_with(self) -> dict:
        """What the record says of this machine and of how it computes."""
        return provenance.made_here(self.preset.threads, self.precision, self.device) | {
            "devices": parallel.ranks(),
            "compiled": self.execution.compiled,
            "cuda_graphs": self.execution.graphed,
            "accumulate": self.execution.accumulate,
            "gpu": torch.cuda.get_device_name() if self.device == "cuda" else None,
        }

    def to_the_end(self) -> dict:
        """Train to the last step, a collapse or a loss that is not finite, and save and score on the way.
        Returns the record.

        Raises runs.Interrupted when it was asked to stop, with a checkpoint of the present step.
        """
        config, record = self.config, self.record
        if record["status"] in runs.FINISHED:  # killed between its last checkpoint and its record
            parallel.on_first(lambda: (self.run.write(record), keep_best(self.run, record)))
            return record
        compile_it = torch.compile if self.execution.compiled else lambda network: network
        self.fast_g, self.fast_d = compile_it(self.g), compile_it(self.d)
        self.trained_g, self.trained_d = parallel.wrap(self.fast_g), parallel.wrap(self.fast_d)
        self.updates = (
            GraphedUpdates(self._update, self.g, self.d) if self.execution.graphed else self._update
        )
        parallel.on_first(self._prepare_scores)
        batches = Batches(self.data, self.preset.batch_size, config.seed_of("order"), config.recipe.flip)
        drawn = prefetched(config, batches, record["step"], self.device)
        self._start_clock()
        while True:
            stopping, late = parallel.any_of(self.stop(), time.monotonic() - self.saved_at > self.next_save)
            if stopping:
                raise self._interrupted()
            if late or (self._unscored() and self.saved_step != record["step"]):
                self._save("running")
            if self._unscored():
                self._score_and_save()
                if record["status"] != "running":
                    return record
            seen = self._step(*next(drawn))
            if record["step"] % self.preset.log_every == 0 or record["step"] == self.preset.steps:
                self._note(*seen)
                if record["status"] != "running":
                    return record

    def _prepare_scores(self) -> None:
        keep_best(self.run, self.record)
        self.scorer = Scorer(self.config, self.data, self.device)
        definition = self.scorer.definition | {"samples": self.preset.samples}
        if self.record["scores"] and self.record["definition"] != definition:
            raise ReproError(
                f"{self.run.folder} has scores by another definition ({self.record['definition']}; now"
                f" {definition}): give it the same --data, or move it away."
            )
        self.record["definition"] = definition
        self.record["real"], self.record["noise"] = self.scorer.real, self.scorer.noise
        self.run.write(self.record)

    def _step(self, *drawn: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The updates of a step on what they drew, and the averages of G. Returns as `_update`."""
        seen = self.updates(*drawn)
        self.record["step"] += 1
        self.shadow.update_parameters(self.g)
        if self.ema and self.record["step"] >= self.config.ema_start:
            self.ema.update_parameters(self.g)
        return seen

    def _update(self, *drawn: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The updates of D and the one of G. Returns the losses of D and G, and D's logits (B,) of real and
        of generated images.
        """
        *of_d, of_g = drawn
        config, precision, parts = self.config, self.precision, self.execution.accumulate
        for x in of_d:
            loss_d, logits_real, logits_fake = update_d(
                config, self.fast_g, self.trained_d, self.optimiser_d, precision, *x, parts=parts
            )
        loss_g = update_g(config, self.trained_g, self.fast_d, self.optimiser_g, *of_g, precision, parts)
        return loss_d, loss_g, logits_real, logits_fake

    def _note(self, loss_d: Tensor, loss_g: Tensor, logits_real: Tensor, logits_fake: Tensor) -> None:
        """Put the step into the history; a loss that is not finite ends the run as diverged."""
        step = self.record["step"]
        entry = {
            "step": step,
            "loss_d": parallel.mean(loss_d).item(),
            "loss_g": parallel.mean(loss_g).item(),
            "logit_real": parallel.mean(logits_real.mean()).item(),
            "logit_fake": parallel.mean(logits_fake.mean()).item(),
            "gamma_g": gammas(self.g),
            "gamma_d": gammas(self.d),
        }
        if self.ema and self.ema.n_averaged > 0:
            entry["average_lag"] = average_lag(self.ema, self.g)
        if not all(math.isfinite(entry[name]) for name in ("loss_d", "loss_g")):
            self.record["error"] = f"the loss was not finite at step {step}"
            self._save("diverged")
            return
        self.record["history"].append(runs.shortened(entry))
        log.info("step %d/%d  D %.3f  G %.3f", step, self.preset.steps, entry["loss_d"], entry["loss_g"])
        parallel.on_first(lambda: self.run.write(self.record))

    def _start_clock(self) -> None:
        self.clock = self.started = self.saved_at = time.monotonic()
        self.wall_before = self.record["provenance"]["wall_seconds"]
        self.next_save, self.saved_step = CHECKPOINT_SECONDS, None

    def _spend(self, purpose: str) -> None:
        """Count the time since the last call under `purpose`."""
        made, now, name = self.record["provenance"], time.monotonic(), f"{purpose}_seconds"
        made[name] = round(made[name] + now - self.clock, 3)
        self.clock = now

    def _save(self, status: str) -> None:
        """Write the checkpoint, then the record; the time it takes counts as neither training nor scoring."""
        self._spend("train")
        began, made = self.clock, self.record["provenance"]
        made["wall_seconds"] = round(self.wall_before + began - self.started, 1)
        if self.record["step"]:
            images = self.record["step"] * self.preset.batch_size
            made["images_per_second"] = round(images / made["train_seconds"], 1)
        self.record["status"] = status

        def write() -> None:
            write_checkpoint(self.run, self.config, self.modules, self.record, self.precision)
            self.run.write(self.record)

        parallel.on_first(write)
        self.clock = self.saved_at = time.monotonic()
        self.saved_step = self.record["step"]
        self.next_save = max(CHECKPOINT_SECONDS, (self.saved_at - began) / CHECKPOINT_SHARE)

    def _interrupted(self) -> runs.Interrupted:
        self._save("interrupted")
        return runs.Interrupted(
            f"{self.run.folder} stopped at step {self.record['step']} of {self.preset.steps}; the same"
            " command continues it."
        )

    def _unscored(self) -> bool:
        """Whether the present step is one to score and has no score yet."""
        step, scores = self.record["step"], self.record["scores"]
        return self.preset.is_scored(step) and (not scores or scores[-1]["step"] < step)

    def _score_and_save(self) -> None:
        """Score the present step; its status is then "running", or "complete" or "collapsed" at an end."""

        def score() -> str | None:
            with self.stop.heard_at_once():
                return self._score()

        self._spend("train")
        try:
            reason = parallel.on_first(score)
        except runs.Interrupted:
            self._spend("score")
            raise self._interrupted() from None
        self._spend("score")
        step = self.record["step"]
        if reason:
            self.record["error"] = f"{reason} at step {step}"
        self._save("collapsed" if reason else "complete" if step == self.preset.steps else "running")
        parallel.on_first(lambda: keep_best(self.run, self.record))

    def _score(self) -> str | None:
        """Score and picture the present generator; the record changes at the end. Returns why the run has
        collapsed, if it has.
        """
        run, record, step = self.run, self.record, self.record["step"]
        sampled = self.ema.module if self.ema and self.ema.n_averaged > 0 else self.g
        last = step == self.preset.steps
        images, labels = self._sample(sampled)
        scores = {"step": step} | self.scorer(images, labels, last)
        log.info(
            "step %d  %s",
            step,
            "  ".join(f"{k} {v:.4g}" for k, v in scores.items() if k not in ("step", "kid_by_class")),
        )
        reason = collapse([*record["scores"], scores])
        runs.write_atomically(run.samples_path, sheets.by_class(images, labels))
        found = {}
        if attention.blocks(self.g):
            measured, shown = attention.look(sampled, self.d, self.config, self.precision, self.device)
            found["attention"] = [*record["attention"], {"step": step} | runs.shortened(measured)]
            attention.write(run, shown)
        if last or reason:
            found |= self._look_closer(sampled, images[:NEIGHBOURS], last)
        if last:
            first = self.preset.sampling_seed + 1
            found["resampled"] = [
                {"sampling_seed": seed} | self.scorer(*self._sample(sampled, seed))
                for seed in range(first, first + self.preset.resamples)
            ]
        record["scores"].append(scores)
        record.update(found, final=scores, best=runs.best(record["scores"]))
        return reason

    def _look_closer(self, sampled: nn.Module, images: np.ndarray, last: bool) -> dict:
        """What is looked at once, at the run's end: images (N, R, R, 3) beside their nearest training images,
        interpolations, and the scores of the average beside training. Returns the record's part.
        """
        run, precision, device = self.run, self.precision, self.device
        nearest, distances = nearest_training_images(self.scorer, self.data, images)
        runs.write_atomically(run.picture("neighbours"), sheets.neighbours(images, nearest))
        between = interpolations(sampled, self.config, precision, device)
        runs.write_atomically(run.picture("interpolations"), sheets.grid(between))
        averaged = with_own_statistics(self.shadow.module, self.config, precision, device)
        images, labels = self._sample(averaged)
        scores = self.scorer(images, labels, last)
        runs.write_atomically(run.picture("shadow"), sheets.by_class(images, labels))
        return {"neighbours": distances, "shadow": {"decay": self.config.shadow_decay} | scores}

    def _sample(self, generator: nn.Module, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As many images (N, R, R, 3) uint8 as are scored and their labels (N,), with the preset's sampling
        seed or another one.
        """
        return sample(generator, self.config, self.preset.samples, self.precision, self.device, seed)
