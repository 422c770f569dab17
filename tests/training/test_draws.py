"""What the updates draw."""

import torch

from repro.data.images import Batches
from repro.training import draws, loop
from tests.training.helpers import train_in


def test_updates_of_d_for_each_of_g_and_the_data_they_see(
    make_config, shapes_data, tmp_path, light_scores, monkeypatch
):
    seen, original = [], loop.update_d
    monkeypatch.setattr(loop, "update_d", lambda *a, **k: seen.append(a[5:9]) or original(*a, **k))
    config = make_config("sngan_projection", steps=2)
    train_in(tmp_path, config, shapes_data)
    # images and latents differ
    assert len(seen) == 10 and all(len({t[k].sum().item() for t in seen}) == 10 for k in (0, 2))
    # prefetched in a thread: the same as asked for one by one, from any step on
    batches = Batches(shapes_data, 8, 0, False)
    wanted = [update for step in range(2) for update in draws.draws(config, batches, step)[:-1]]
    assert all(
        torch.equal(a, b)
        for one, other in zip(seen, wanted, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    later = next(draws.prefetched(config, batches, 1, "cpu"))
    assert all(
        torch.equal(a, b)
        for one, other in zip(later, draws.draws(config, batches, 1), strict=True)
        for a, b in zip(one, other, strict=True)
    )
