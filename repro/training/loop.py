"""Training: one loop, top to bottom. It resumes from its checkpoint, and everything random in it follows from
seed and step.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import parallel, runs
from ..config import Config
from ..data import sheets
from ..data.images import Batches, ImageData
from ..errors import ReproError
from ..networks import losses
from ..networks.layers import BatchNorm
from ..networks.resnet import build, gammas, parameter_count
from ..rng import normal, stream
from ..scoring import attention
from ..scoring.evaluate import Scorer, interpolations, nearest_training_images, sample
from .checkpoint import keep_best, restore, write_checkpoint

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60  # between checkpoints, at least,
CHECKPOINT_SHARE = 0.02  # and so much more that writing them takes this share of the time at most
OWN_BATCHES = 50  # behind the batch-norm statistics of averaged weights
NEIGHBOURS = 10  # samples shown beside their nearest training images: one of each of the first classes
COLLAPSE_DIVERSITY = 0.05  # collapsed when samples vary less than this share of what real images do,
# or when FID is past this many times its best at two scored steps in a row (paper, Figure 3: SN on G and D
# ends at 2.2)
COLLAPSE_FID = 2.0


def native_precision(wanted: str) -> str:
    """bf16 only where the processor computes in it natively; else fp32 (slower, other last digits; recorded
    in run.json).

    A processor told to compute as a lesser one (ATEN_CPU_CAPABILITY, see check.ARITHMETICS) counts as that
    one.
    """
    native = torch.cpu._is_avx512_bf16_supported() and torch.backends.cpu.get_cpu_capability().startswith(
        "AVX512"
    )
    if wanted == "bf16" and not torch.cuda.is_available() and not native:
        log.warning(
            "This processor has no bf16 arithmetic: training in fp32, so scores differ in the last digits."
        )
        return "fp32"
    return wanted


def latents_and_labels(config: Config, *purpose) -> tuple[Tensor, Tensor]:
    """Z (B, z_dim) standard normal and uniform labels (B,) of one update."""
    batch = config.preset.batch_size
    seed = config.seed_of("latents")
    z = normal((batch, config.preset.z_dim), seed, "z", *purpose)
    return z, torch.from_numpy(stream(seed, "label", *purpose).integers(config.num_classes, size=batch))


def draws(config: Config, batches: Batches, step: int) -> list[tuple[Tensor, ...]]:
    """All that step number `step` draws: for each D update real images, their labels, z, its labels and,
    where there is a gradient penalty, the shares (B,) in which it mixes the images; for G's z and its
    labels.
    """

    def of_d(i: int) -> tuple[Tensor, ...]:
        drawn = (*batches.batch(i), *latents_and_labels(config, "d", i))
        if config.recipe.loss != "wgan_gp":
            return drawn
        return *drawn, torch.from_numpy(
            stream(config.seed_of("latents"), "mix", i).random(batches.size, dtype=np.float32)
        )

    updates = range(step * config.recipe.d_steps, (step + 1) * config.recipe.d_steps)
    return [of_d(i) for i in updates] + [latents_and_labels(config, "g", step)]


def prefetched(
    config: Config, batches: Batches, first_step: int, device: str
) -> Iterator[list[tuple[Tensor, ...]]]:
    """The share of this rank in the `draws` of each step from `first_step` on, on the device; a thread makes
    the next step's meanwhile.

    A GPU copies them from pinned memory, so that the loop never waits for it.
    """
    cuda = device == "cuda"

    def ready(t: Tensor) -> Tensor:
        return parallel.share(t).pin_memory() if cuda else parallel.share(t)

    def make(step: int) -> list[tuple[Tensor, ...]]:
        return [tuple(map(ready, update)) for update in draws(config, batches, step)]

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, first_step)
        for step in range(first_step, config.preset.steps):
            made, coming = coming.result(), pool.submit(make, step + 1)
            yield [tuple(t.to(device, non_blocking=cuda) for t in update) for update in made]


def make_optimisers(config: Config, g: nn.Module, d: nn.Module) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    """Adam for G and Adam for D, each with its own learning rate."""
    recipe = config.recipe
    adam = dict(betas=(float(recipe.beta1), float(recipe.beta2)), eps=recipe.adam_eps, fused=True)
    return torch.optim.Adam(g.parameters(), config.lr_g, **adam), torch.optim.Adam(
        d.parameters(), config.lr_d, **adam
    )


def arithmetic(device: str, precision: str, *networks: nn.Module) -> ExitStack:
    """Autocast to the run's precision, and each weight's spectral norm evaluated once for all its uses in the
    block.

    Compiled networks use each weight once and know no such cache: every new value in it would compile them
    again.
    """
    stack = ExitStack()
    stack.enter_context(torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"))
    if not any(parallel.is_compiled(network) for network in networks):
        stack.enter_context(parametrize.cached())
    return stack


def update_d(
    config: Config,
    g: nn.Module,
    d: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    z: Tensor,
    fake_labels: Tensor,
    precision: str,
    mix: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """An update of D on real images (B, 3, R, R) uint8 with labels (B,), and as many generated from z (B,
    z_dim) and fake_labels.

    Real and generated images pass through D together: one power iteration an update, as the released code,
    which keeps that of the real pass only. With `recipe.d_passes` 2 they pass one after the other, with an
    iteration each (StudioGAN, mmgeneration, heykeetae). G is in training mode, as there. With loss "wgan_gp"
    the gradient penalty, at images mixed in the shares `mix` (B,), is part of the loss, or follows in an
    optimiser step of its own as in the second codebase. Returns the loss and the logits (B,) of real and of
    generated images.
    """
    recipe, device = config.recipe, z.device.type
    real = images.float().div_(127.5).sub_(1.0)  # -1 .. 1
    with torch.no_grad(), arithmetic(device, precision, g):
        fake = g(z, fake_labels).float()
    passes = []
    for x, y in zip(
        torch.cat([real, fake]).chunk(recipe.d_passes),
        torch.cat([labels, fake_labels]).chunk(recipe.d_passes),
        strict=True,
    ):
        with arithmetic(device, precision, d):
            passes.append(d(x, y))
    logits, (class_logits, *_) = zip(*passes, strict=True)
    logits_real, logits_fake = torch.cat(logits).float().chunk(2)
    loss = {"hinge": losses.hinge_d, "wgan_gp": losses.wasserstein_d}[recipe.loss](logits_real, logits_fake)
    if class_logits is not None:  # D learns the classes of the real images
        on_real = class_logits.float()[: len(labels)]
        loss = loss + recipe.auxiliary_weight_d * losses.auxiliary_classifier(on_real, labels)

    def penalty() -> Tensor:
        # PyTorch's fused attention has no second derivative
        with arithmetic(device, precision), sdpa_kernel(SDPBackend.MATH):
            return recipe.gp_weight * losses.gradient_penalty(
                lambda x: parallel.unwrap(d)(x, labels)[0].float(), real, fake, mix
            )

    if recipe.loss == "wgan_gp" and not recipe.gp_own_step:
        loss = loss + penalty()
    _step(optimiser, loss)
    if recipe.loss == "wgan_gp" and recipe.gp_own_step:
        _step(optimiser, penalty(), after_backward=lambda: parallel.average_gradients(d))
    return loss.detach(), logits_real.detach(), logits_fake.detach()


def _step(
    optimiser: torch.optim.Optimizer, loss: Tensor, after_backward: Callable[[], None] = lambda: None
) -> None:
    optimiser.zero_grad()
    loss.backward()
    after_backward()
    optimiser.step()


def update_g(
    config: Config,
    g: nn.Module,
    d: nn.Module,
    optimiser: torch.optim.Optimizer,
    z: Tensor,
    labels: Tensor,
    precision: str,
) -> Tensor:
    """An update of G on images from z (B, z_dim) and labels (B,). Returns the loss.

    D gets no gradients of its weights. Unless the recipe says otherwise it is in evaluation mode, which keeps
    its power-iteration vectors (nothing else in it depends on the mode).
    """
    d.train(config.recipe.sn_d_in_g_step).requires_grad_(False)
    with arithmetic(z.device.type, precision, g, d):
        logits, class_logits = d(g(z, labels), labels)
    loss = losses.adversarial_g(logits.float())
    if class_logits is not None:
        loss = loss + config.recipe.auxiliary_weight_g * losses.auxiliary_classifier(
            class_logits.float(), labels
        )
    _step(optimiser, loss)
    d.train().requires_grad_(True)
    return loss.detach()


class StopRequest:
    """Whether a run was asked to end, by SIGINT, SIGTERM or its time limit."""

    def __init__(self, max_minutes: float):
        self.deadline = time.monotonic() + 60 * max_minutes
        self.signalled = self.raising = False

    def __call__(self) -> bool:
        """Whether to stop now."""
        return self.signalled or time.monotonic() > self.deadline

    def hear(self, *_) -> None:
        """The signal handler."""
        self.signalled = True
        if self.raising:
            raise runs.Interrupted

    @contextmanager
    def heard_at_once(self) -> Iterator[None]:
        """A block that a signal ends in its middle (runs.Interrupted): for long work that changes nothing
        before its end.
        """
        self.raising = True
        try:
            yield
        finally:
            self.raising = False


def train(
    config: Config,
    data: ImageData,
    run: runs.Run,
    row: str,
    max_minutes: float = math.inf,
    compiled: bool = False,
) -> dict:
    """Train and score one run, from its checkpoint if it has one. Returns the record that stands in run.json.

    SIGINT, SIGTERM and the time limit end it at the next step with a checkpoint (raises runs.Interrupted); a
    signal also ends a score in its middle, which begins anew when the run goes on. A second process on the
    same folder waits for the first. Raises ReproError when the folder holds another configuration or its
    checkpoint cannot be used.

    compiled: by torch.compile, which takes minutes to start and computes with other last digits (recorded).
    In a process group (parallel.launch) every rank calls this; the first one reads, scores and writes.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    stop = StopRequest(max_minutes)
    before = {s: signal.signal(s, stop.hear) for s in (signal.SIGINT, signal.SIGTERM)}
    lock = FileLock(run.folder / ".lock")

    def begin() -> dict | None:
        _claim(lock, run, stop)
        return run.check_same(config)

    try:
        record = parallel.on_first(begin)
        if record is not None and record["status"] in runs.FINISHED:
            return record
        return _train(config, data, run, row, stop, compiled)
    finally:
        lock.release()
        for s, handler in before.items():
            signal.signal(s, handler)


def _claim(lock: FileLock, run: runs.Run, stop: StopRequest) -> None:
    """Take the run folder's lock. The system frees a dead owner's; waits for a live one's. Raises
    runs.Interrupted.
    """
    while True:
        try:
            lock.acquire(timeout=1)
            return
        except Timeout:
            log.info("another process trains this run: waiting for it")
            if stop():
                raise runs.Interrupted(
                    f"{run.folder} is being trained by another process; the same command waits for it."
                ) from None


def _train(
    config: Config, data: ImageData, run: runs.Run, row: str, stop: StopRequest, compiled: bool
) -> dict:
    recipe, preset = config.recipe, config.preset
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = native_precision(preset.precision)
    torch.set_num_threads(preset.threads)
    if preset.batch_size % parallel.ranks():
        raise ReproError(
            f"A batch of {preset.batch_size} does not split into {parallel.ranks()} equal parts: choose"
            " --devices so that it does."
        )

    g, d = (network.to(device) for network in build(config))
    g.train(), d.train()
    optimiser_g, optimiser_d = make_optimisers(config, g, d)
    # spectral-norm vectors and batch-norm averages are copied, not averaged, unless the recipe says otherwise
    ema = (
        AveragedModel(g, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=recipe.ema_buffers)
        if recipe.ema_decay
        else None
    )
    shadow = AveragedModel(g, multi_avg_fn=get_ema_multi_avg_fn(config.shadow_decay))  # never in training
    modules = {"g": g, "d": d, "optimiser_g": optimiser_g, "optimiser_d": optimiser_d, "shadow": shadow} | (
        {"ema": ema} if ema else {}
    )

    record = {
        "schema": runs.SCHEMA,
        "key": config.key,
        "row": row,
        "recipe": recipe.name,
        "config": config.identity,
        "status": "running",
        "error": None,
        "step": 0,
        "parameters": {"generator": parameter_count(g), "discriminator": parameter_count(d)},
        "history": [],
        "scores": [],
        "attention": [],
        "selection": runs.SELECTION,
        "provenance": (
            runs.provenance(preset.threads, precision, device)
            | {
                "data": data.name,
                "data_fingerprint": data.fingerprint,
                "images": len(data.images),
                "wall_seconds": 0.0,
                "train_seconds": 0.0,
                "score_seconds": 0.0,
            }
        ),
    }
    record["provenance"] |= {"devices": parallel.ranks(), "compiled": compiled}
    restore(run, config, modules, record, precision)
    if record["status"] in runs.FINISHED:  # killed between its last checkpoint and its record
        parallel.on_first(lambda: (run.write(record), keep_best(run, record)))
        return record
    fast_g, fast_d = (torch.compile(g), torch.compile(d)) if compiled else (g, d)
    trained_g, trained_d = parallel.wrap(fast_g), parallel.wrap(fast_d)
    scorer = None

    def begin() -> None:
        nonlocal scorer
        keep_best(run, record)
        scorer = Scorer(config, data, device)
        record["definition"] = scorer.definition | {"samples": preset.samples}
        record["real"], record["noise"] = scorer.real, scorer.noise
        run.write(record)

    parallel.on_first(begin)
    drawn = prefetched(
        config, Batches(data, preset.batch_size, config.seed_of("order"), recipe.flip), record["step"], device
    )
    clock = time.monotonic()
    started, wall_before = clock, record["provenance"]["wall_seconds"]
    saved_at, next_save, saved_step = clock, CHECKPOINT_SECONDS, None

    def spend(purpose: str) -> None:
        """Count the time since the last call under `purpose`."""
        nonlocal clock
        now, name = time.monotonic(), f"{purpose}_seconds"
        record["provenance"][name] = round(record["provenance"][name] + now - clock, 3)
        clock = now

    def save(status: str) -> None:
        nonlocal clock, saved_at, next_save, saved_step
        spend("train")
        began, made = clock, record["provenance"]
        made["wall_seconds"] = round(wall_before + began - started, 1)
        if record["step"]:
            made["images_per_second"] = round(record["step"] * preset.batch_size / made["train_seconds"], 1)
        record["status"] = status

        def write() -> None:
            write_checkpoint(run, config, modules, record, precision)
            run.write(record)

        parallel.on_first(write)
        clock = saved_at = time.monotonic()
        saved_step = record["step"]
        next_save = max(CHECKPOINT_SECONDS, (saved_at - began) / CHECKPOINT_SHARE)

    def unscored() -> bool:
        """Whether the present step is one to score and has no score yet."""
        step = record["step"]
        due = step > 0 and (step % preset.score_every == 0 or step == preset.steps)
        return due and (not record["scores"] or record["scores"][-1]["step"] < step)

    def score() -> str | None:
        """Score and picture the present generator; the record changes at the end. Returns why the run has
        collapsed, if it has.
        """
        step, sampled = record["step"], ema.module if ema and ema.n_averaged > 0 else g
        last = step == preset.steps
        images, labels = sample(sampled, config, preset.samples, precision, device)
        scores = {"step": step} | scorer(images, labels, last)
        log.info(
            "step %d  %s",
            step,
            "  ".join(f"{k} {v:.4g}" for k, v in scores.items() if k not in ("step", "kid_by_class")),
        )
        reason = collapse([*record["scores"], scores])
        runs.write_atomically(run.samples_path, sheets.by_class(images, labels))
        found = {}
        if attention.blocks(g):
            measured, shown = attention.look(sampled, d, config, precision, device)
            found["attention"] = [*record["attention"], {"step": step} | runs.shortened(measured)]
            attention.write(run, shown)
        if last or reason:
            nearest, found["neighbours"] = nearest_training_images(scorer, data, images[:NEIGHBOURS])
            runs.write_atomically(run.picture("neighbours"), sheets.neighbours(images[:NEIGHBOURS], nearest))
            runs.write_atomically(
                run.picture("interpolations"), sheets.grid(interpolations(sampled, config, precision, device))
            )
            averaged = with_own_statistics(shadow.module, config, precision, device)
            images, labels = sample(averaged, config, preset.samples, precision, device)
            found["shadow"] = {"decay": config.shadow_decay} | scorer(images, labels, last)
            runs.write_atomically(run.picture("shadow"), sheets.by_class(images, labels))
        if last:
            found["resampled"] = [
                {"sampling_seed": seed}
                | scorer(*sample(sampled, config, preset.samples, precision, device, seed))
                for seed in range(preset.sampling_seed + 1, preset.sampling_seed + 1 + preset.resamples)
            ]
        record["scores"].append(scores)
        record.update(found, final=scores, best=runs.best(record["scores"]))
        return reason

    def score_interruptibly() -> str | None:
        with stop.heard_at_once():
            return score()

    def interrupted() -> runs.Interrupted:
        save("interrupted")
        return runs.Interrupted(
            f"{run.folder} stopped at step {record['step']} of {preset.steps}; the same command continues it."
        )

    while True:
        stopping, late = parallel.any_of(stop(), time.monotonic() - saved_at > next_save)
        if stopping:
            raise interrupted()
        if late or (unscored() and saved_step != record["step"]):
            save("running")
        if unscored():
            spend("train")
            try:
                reason = parallel.on_first(score_interruptibly)
            except runs.Interrupted:
                spend("score")
                raise interrupted() from None
            spend("score")
            if reason:
                record["error"] = f"{reason} at step {record['step']}"
            save("collapsed" if reason else "complete" if record["step"] == preset.steps else "running")
            parallel.on_first(lambda: keep_best(run, record))
            if record["status"] != "running":
                return record
        *of_d, of_g = next(drawn)
        for drawn_d in of_d:
            loss_d, logits_real, logits_fake = update_d(
                config, fast_g, trained_d, optimiser_d, *drawn_d[:4], precision, *drawn_d[4:]
            )
        loss_g = update_g(config, trained_g, fast_d, optimiser_g, *of_g, precision)
        record["step"] = step = record["step"] + 1
        shadow.update_parameters(g)
        if ema and step >= config.ema_start:
            ema.update_parameters(g)
        if step % preset.log_every == 0 or step == preset.steps:
            entry = {
                "step": step,
                "loss_d": parallel.mean(loss_d).item(),
                "loss_g": parallel.mean(loss_g).item(),
                "logit_real": parallel.mean(logits_real.mean()).item(),
                "logit_fake": parallel.mean(logits_fake.mean()).item(),
                "gamma_g": gammas(g),
                "gamma_d": gammas(d),
            }
            if ema and ema.n_averaged > 0:
                entry["average_lag"] = average_lag(ema, g)
            if not all(math.isfinite(entry[name]) for name in ("loss_d", "loss_g")):
                record["error"] = f"the loss was not finite at step {step}"
                save("diverged")
                return record
            record["history"].append(runs.shortened(entry))
            log.info("step %d/%d  D %.3f  G %.3f", step, preset.steps, entry["loss_d"], entry["loss_g"])
            parallel.on_first(lambda: run.write(record))


def with_own_statistics(generator: nn.Module, config: Config, precision: str, device: str) -> nn.Module:
    """A copy of an averaged G whose batch-norm statistics are those of its own samples: averaged ones, and
    those of the raw G, misfit.

    They are plain means over OWN_BATCHES batches of as many images as are normalised together in training.
    """
    generator = copy.deepcopy(generator).train()
    norms = [module for module in generator.modules() if isinstance(module, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    together = min(config.recipe.bn_batch or config.preset.batch_size, config.preset.batch_size)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's word for a plain mean
    with torch.no_grad(), arithmetic(device, precision):
        for i in range(OWN_BATCHES):
            z = normal((together, config.preset.z_dim), config.preset.sampling_seed, "own statistics", i)
            generator(
                z.to(device), (torch.arange(i * together, (i + 1) * together) % config.num_classes).to(device)
            )
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return generator


@torch.no_grad()
def average_lag(ema: AveragedModel, g: nn.Module) -> float:
    """Distance of the averaged parameters from the present ones, relative to the present ones' norm."""
    pairs = list(zip(ema.module.parameters(), g.parameters(), strict=True))
    squares = sum((a - b).square().sum() for a, b in pairs), sum(b.square().sum() for _, b in pairs)
    return math.sqrt(squares[0] / squares[1])


def collapse(scores: list[dict]) -> str | None:
    """Why a run with these scores has collapsed, or None when it has not."""
    if scores[-1]["diversity"] < COLLAPSE_DIVERSITY:
        return "samples no longer differ from one another"
    bound = COLLAPSE_FID * runs.best(scores)["fid"]
    if all(score["fid"] > bound for score in scores[-2:]):
        return f"FID past {COLLAPSE_FID:g} times its best twice in a row"
    return None
