"""Measured effects of small differences between the released code and this study
(repro/facts/differences.csv), and of what keeps D's attention uniform.

python -m benchmarks.differences --data ../shared/data/cifar10 --steps 200
"""

from __future__ import annotations

import argparse
import dataclasses

import torch
from torch.nn.utils import parametrize

from repro.config import Config
from repro.data import images, loading
from repro.networks import resnet
from repro.presets import PRESETS
from repro.scoring import attention
from repro.scoring.sampling import latents, to_uint8
from repro.studies import study
from repro.training import draws, updates

VARIANTS = {
    "C/8 keys": {},
    "16 keys": {"key_channels_min": 16},
    "C/8 keys, no SN in the block": {"attention_sn": False},
}


def one_more_iteration(network: torch.nn.Module) -> str:
    """How much each sigma grows by one more power iteration from the kept vectors: median and maximum over
    weights, in per cent.
    """
    changes = []
    for module in network.modules():
        for norm in getattr(module, "parametrizations", {}).values():
            matrix, sn = norm.original.detach().flatten(1), norm[0]
            before = sn.u @ (matrix @ sn.v)
            v = torch.nn.functional.normalize(matrix.T @ sn.u, dim=0)
            changes.append(((matrix @ v).norm() / before - 1).abs().item())
    changes.sort()
    return f"median {100 * changes[len(changes) // 2]:.2g} %, at most {100 * changes[-1]:.2g} %"


@torch.no_grad()
def of_attention(config: Config, g: torch.nn.Module, d: torch.nn.Module) -> str:
    """Of D's block on 64 samples in float32: the entropy as a share of the uniform one's, at the logits and
    at ten times them, their spread over keys, norms.
    """
    g.eval(), d.eval()
    (block,), found = attention.blocks(d).values(), []
    handle = block.register_forward_pre_hook(lambda _, inputs: found.extend(inputs))
    with parametrize.cached():
        labels = torch.arange(64) % config.num_classes
        d(g(latents(config.preset.z_dim, config.preset.sampling_seed, 0, 64), labels), labels)
        query, key, _ = block._queries_keys_values(found[0])
        sigma = (
            torch.linalg.matrix_norm(block.query.weight.flatten(1), 2).item()
            * torch.linalg.matrix_norm(block.key.weight.flatten(1), 2).item()
        )
    handle.remove(), g.train(), d.train()
    logits = query @ key.transpose(1, 2)
    entropy = lambda x: (
        torch.special.entr(x.softmax(-1)).sum(-1).mean().item() / torch.log(torch.tensor(x.shape[-1])).item()
    )
    return (
        f"entropy {entropy(logits):.4f}, at ten times the logits {entropy(10 * logits):.4f}; logits' sd over"
        f" keys {logits.std(-1).mean():.4f}; features' norm {found[0].norm(dim=1).mean():.3f}; sigma(query)"
        f" sigma(key) {sigma:.2f}; gamma {block.gamma.item():.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="cifar10-recipes")
    parser.add_argument("--data", default="")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    loaded = loading.load(PRESETS[given.preset], given.data or None)
    row, precision = study.rows()["attention_16"], updates.native_precision("bf16")
    for name, changes in VARIANTS.items():
        config = images.with_data(study.configure(row, PRESETS[given.preset]), loaded)
        config = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, **changes))
        g, d = resnet.build(config)
        optimisers, batches = (
            updates.make_optimisers(config, g, d),
            images.Batches(loaded, config.preset.batch_size, 0, False),
        )
        for step in range(given.steps + 1):
            if step in (0, given.steps):
                print(
                    f"{name}, step {step}: D {of_attention(config, g, d)}\n  one more power iteration: D"
                    f" {one_more_iteration(d)}; G {one_more_iteration(g)}",
                    flush=True,
                )
            of_d, of_g = draws.draws(config, batches, step)
            updates.update_d(config, g, d, optimisers[1], precision, *of_d)
            updates.update_g(config, g, d, optimisers[0], *of_g, precision)
    x = g.eval()(latents(config.preset.z_dim, 0, 0, 64), torch.arange(64) % config.num_classes).detach()
    error = (x.float() + 1) * 127.5 - torch.from_numpy(to_uint8(x)).permute(0, 3, 1, 2)
    print(f"8-bit rounding: rms {error.square().mean().sqrt():.3f} grey levels")


if __name__ == "__main__":
    main()
