"""What attention maps attend to (paper, section 5.2 and Figure 5): distances, entropy and colours, beside
what other maps would give.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import runs
from ..config import Config
from ..data import sheets
from ..networks.layers import SelfAttention
from .sampling import latents, to_uint8

IMAGES = 64  # samples behind the statistics of one scored step
SHOWN = 4  # of them in the picture


def blocks(network: nn.Module) -> dict[str, SelfAttention]:
    """The attention blocks of a network by stage name."""
    return {name: block for name, block in network.inserted.items() if isinstance(block, SelfAttention)}


def maps(network: nn.Module, *inputs: Tensor) -> tuple[object, dict[str, Tensor]]:
    """The network's output for `inputs`, and the map (B, H*W, K) of each attention block by stage name."""
    found = {}

    def keep(name: str):
        return lambda block, arguments: found.__setitem__(name, block.attention_map(*arguments).float())

    hooks = [block.register_forward_pre_hook(keep(name)) for name, block in blocks(network).items()]
    try:
        return network(*inputs), found
    finally:
        for hook in hooks:
            hook.remove()


def positions(count: int) -> Tensor:
    """Centres (count, 2), as (row, column), of a square grid of `count` cells over an image of side 1."""
    side = math.isqrt(count)
    centres = (torch.arange(side) + 0.5) / side
    return torch.cartesian_prod(centres, centres)


def nearest_3x3(queries: int, keys: int) -> Tensor:
    """The map (queries, keys) with equal weights on the key nearest to each query and the keys beside it, up
    to 3x3: fewer at the edges.
    """
    centres = positions(keys)
    nearest = centres[torch.cdist(positions(queries), centres).argmin(-1)]
    beside = (nearest[:, None] - centres).abs().amax(-1) < 1.5 / math.isqrt(keys)
    return beside / beside.sum(-1, keepdim=True)


def colours(images: Tensor, count: int) -> Tensor:
    """Mean colours (B, count, 3) of images (B, 3, R, R) in the cells of such a grid."""
    return F.adaptive_avg_pool2d(images, math.isqrt(count)).flatten(2).transpose(1, 2)


def statistics(attention: Tensor, images: np.ndarray) -> dict[str, float]:
    """Means over images and query positions of what a map attends to.

    attention: (B, H*W, K), each row summing to 1; pooled keys stand for the 2x2 positions under them. images:
    uint8 (B, R, R, 3).

    distance, from the query to what is attended, in sides of the image; distance_uniform, distance_3x3 and
    distance_nearest, for equal weights on all keys, on the 3x3 around the nearest one (as many of them as
    there are) and for that alone; entropy, as a share of that of equal weights; colour, the difference
    between the query's colour and the attended ones', in grey levels (root mean square of the three);
    colour_other, with the map of another image, which attends as far; colour_uniform and colour_3x3, with
    equal weights as above.
    """
    attention = attention.cpu()
    queries, keys = attention.shape[1:]
    distances = torch.cdist(positions(queries), positions(keys))
    near = nearest_3x3(queries, keys)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    sums = dict.fromkeys(
        ("distance", "entropy", "colour", "colour_other", "colour_uniform", "colour_3x3"), 0.0
    )
    # one by one: 64x64 maps are large
    for i, (of_queries, of_keys) in enumerate(zip(colours(x, queries), colours(x, keys), strict=True)):
        differences = torch.cdist(of_queries, of_keys) / math.sqrt(3)
        sums["distance"] += (attention[i] * distances).sum(-1).mean().item()
        sums["entropy"] += torch.special.entr(attention[i]).sum(-1).mean().item() / math.log(keys)
        sums["colour"] += (attention[i] * differences).sum(-1).mean().item()
        sums["colour_other"] += (attention[i - 1] * differences).sum(-1).mean().item()
        sums["colour_uniform"] += differences.mean().item()
        sums["colour_3x3"] += (near * differences).sum(-1).mean().item()
    bounds = {
        "distance_uniform": distances.mean().item(),
        "distance_nearest": distances.min(-1).values.mean().item(),
    }
    bounds["distance_3x3"] = (near * distances).sum(-1).mean().item()
    return {name: value / len(images) for name, value in sums.items()} | bounds


@torch.no_grad()
def look(
    g: nn.Module, d: nn.Module, config: Config, precision: str, device: str = "cpu"
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """What the attention of both networks does with IMAGES samples of G. The networks are in evaluation mode
    meanwhile.

    Returns `statistics` by quantity and then by block ("G 16x16"); and arrays to draw: "images" uint8 (SHOWN,
    R, R, 3), the maps of the points sheets.QUERIES in them by block (SHOWN, points, K), and their means over
    all IMAGES by "mean " and block (points, K), float16.
    """
    modes = g.training, d.training
    g.eval(), d.eval()
    labels = (torch.arange(IMAGES) % config.num_classes).to(device)
    z = latents(config.preset.z_dim, config.preset.sampling_seed, 0, IMAGES).to(device)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"), parametrize.cached():
        x, of_g = maps(g, z, labels)
        _, of_d = maps(d, x.float(), labels)
    g.train(modes[0]), d.train(modes[1])
    images = to_uint8(x)
    by_block = {
        f"{network} {name}": m.cpu()
        for network, by_name in (("G", of_g), ("D", of_d))
        for name, m in by_name.items()
    }
    found = {block: statistics(m, images) for block, m in by_block.items()}
    by_quantity = {
        quantity: {name: of[quantity] for name, of in found.items()}
        for quantity in next(iter(found.values()))
    }
    shown = {"images": images[:SHOWN]}
    for block, m in by_block.items():
        points = sheets.at_queries(m.numpy())
        shown |= {
            block: points[:SHOWN].astype(np.float16),
            f"mean {block}": points.mean(0).astype(np.float16),
        }
    return by_quantity, shown


def picture(shown: dict[str, np.ndarray]) -> bytes:
    """G's last block drawn from the arrays of `look`."""
    last = [block for block in shown if block.startswith("G ")][-1]
    return sheets.attention(shown["images"], shown[last])


def write(run: runs.Run, shown: dict[str, np.ndarray]) -> None:
    """The arrays of `look` into the run's folder, and their picture."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **shown)
    runs.write_atomically(run.maps_path, buffer.getvalue())
    runs.write_atomically(run.picture("attention"), picture(shown))
