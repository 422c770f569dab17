"""Layers against formulas written out in full."""

import dataclasses

import numpy as np
import pytest
import torch

from repro import parallel
from repro.networks import layers
from repro.networks.layers import (
    BatchNorm,
    ConditionalBatchNorm,
    ResidualControl,
    SelfAttention,
    attention_weights,
    fused_attention,
)
from repro.networks.spectral_norm import SpectralNorm
from repro.recipes import RECIPES, Recipe


def numpy_attention(x, f, g, h, v, gamma, pool):
    """Paper, section 3, for one image x (C, H, W) and matrices (out, in); keys and values pooled 2x2 in the
    released code.
    """
    C, H, W = x.shape
    shrink = lambda m: m.reshape(len(m), H // 2, 2, W // 2, 2).max((2, 4)).reshape(len(m), -1) if pool else m
    flat = x.reshape(C, H * W)
    s = (f @ flat).T @ shrink(g @ flat)  # (queries, keys)
    beta = np.exp(s - s.max(1, keepdims=True))
    beta /= beta.sum(1, keepdims=True)
    o = v @ (shrink(h @ flat) @ beta.T)
    return gamma * o.reshape(C, H, W) + x, beta


def matrices(block):
    return [
        c.weight.detach().numpy()[:, :, 0, 0] for c in (block.query, block.key, block.value, block.output)
    ]


@pytest.mark.parametrize("recipe", ["released_code", "paper_text"])
def test_attention_equals_the_formula_forward_and_backward(recipe):
    block = SelfAttention(16, RECIPES[recipe], sn=False).double()
    block.gamma.data.fill_(0.7)
    x = torch.randn(2, 16, 6, 6, dtype=torch.float64, requires_grad=True)
    out = block(x)
    pool = RECIPES[recipe].attention_pool
    expected = np.stack([numpy_attention(i, *matrices(block), 0.7, pool)[0] for i in x.detach().numpy()])
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-10)

    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    loss = lambda i, m: (numpy_attention(i, *m, 0.7, pool)[0] * weight[0].numpy()).sum()
    step, image, m = 1e-6, x.detach().numpy()[0], matrices(block)
    for c, i, j in [
        (0, 0, 0),
        (3, 2, 5),
        (15, 5, 1),
    ]:  # gradient to the input, by central differences of the transcription
        high, low = image.copy(), image.copy()
        high[c, i, j] += step
        low[c, i, j] -= step
        assert (loss(high, m) - loss(low, m)) / (2 * step) == pytest.approx(
            x.grad[0, c, i, j].item(), rel=1e-5, abs=1e-7
        )
    total = lambda m: sum(
        (numpy_attention(a, *m, 0.7, pool)[0] * w).sum()
        for a, w in zip(x.detach().numpy(), weight.numpy(), strict=True)
    )
    # and to each of the four weights
    for k, convolution in enumerate((block.query, block.key, block.value, block.output)):
        high, low = [a.copy() for a in m], [a.copy() for a in m]
        high[k][0, 1] += step
        low[k][0, 1] -= step
        assert (total(high) - total(low)) / (2 * step) == pytest.approx(
            convolution.weight.grad[0, 1, 0, 0].item(), rel=1e-4, abs=1e-7
        )


@pytest.mark.parametrize("pool, keys", [(True, 16), (False, 64)])
def test_attention_weights_sum_to_one_over_keys(pool, keys):
    block = SelfAttention(16, Recipe(attention_pool=pool), sn=True)
    weights = block.attention_map(torch.randn(3, 16, 8, 8))
    assert weights.shape == (3, 64, keys)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 64))
    assert (weights.sum(-2) - weights.sum(-2).mean()).abs().max() > 1e-3  # and not over queries


@pytest.mark.parametrize("recipe", ["released_code", "paper_text"])
def test_attention_in_linear_memory_is_the_same_attention(recipe, monkeypatch):
    """Values and gradients; the map that figures show is the one that is used."""
    block = SelfAttention(16, dataclasses.replace(RECIPES[recipe], attention_scale=True), sn=False)
    torch.nn.init.ones_(block.gamma)
    x = torch.randn(2, 16, 8, 8, requires_grad=True)
    found = []
    for fused_from in (10**9, 1):
        monkeypatch.setattr(SelfAttention, "FUSED_FROM", fused_from)
        y = block(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), (x, *block.parameters()))))
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)
    values = block._keys(block.value(x)).flatten(2).transpose(1, 2)
    attended = (block.attention_map(x) @ values).transpose(1, 2).unflatten(2, (8, 8))
    torch.testing.assert_close(block(x), x + block.output(attended), rtol=1e-4, atol=1e-4)


def test_attention_has_float32_logits_on_every_path_in_bf16(monkeypatch):
    """Logits of tens, which bf16 would round by tenths: the plain path is as near to float32 as the fused
    one, and so is the map.
    """
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, n, d, generator=generator) for n, d in ((256, 8), (64, 8), (64, 32)))
    query, key, value = 3 * query.bfloat16(), 3 * key.bfloat16(), value.bfloat16()
    exact = torch.softmax(query.double() @ key.double().transpose(1, 2), dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        weights = attention_weights(query, key)
        plain, fused = weights.to(value.dtype) @ value, fused_attention(query, key, value)
    assert weights.dtype == torch.float32 and (weights - exact).abs().max() < 1e-4
    errors = [(attended.double() - exact @ value.double()).abs().mean() for attended in (plain, fused)]
    assert errors[0] < 2 * errors[1]


@pytest.mark.parametrize("block", [SelfAttention, ResidualControl])
def test_a_fresh_block_is_the_identity_and_gamma_learns(block):
    block = block(16, Recipe(), sn=True)
    x = torch.randn(2, 16, 8, 8)
    out = block(x)
    assert torch.equal(out, x)
    (out * torch.randn_like(out)).sum().backward()
    assert block.gamma.grad.abs() > 0


@pytest.mark.parametrize("channels", [16, 32, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize("recipe", ["released_code", "paper_text"])
def test_the_residual_control_has_the_blocks_parameters(channels, recipe):
    count = lambda block: sum(p.numel() for p in block(channels, RECIPES[recipe], sn=False).parameters())
    assert count(ResidualControl) == pytest.approx(count(SelfAttention), rel=0.02 if channels > 16 else 0.05)


def test_released_attention_has_its_parameters():
    block = SelfAttention(64, Recipe(), sn=False)
    assert sum(p.numel() for p in block.parameters()) == 5 * 64 * 64 // 4 + 1


def test_spectral_norm_finds_the_largest_singular_value():
    weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    norm = SpectralNorm(weight, eps=1e-12, iterations=1, through=True).train()
    for _ in range(200):
        out = norm(weight)
    assert torch.linalg.svdvals(out.flatten(1))[0] == pytest.approx(1, abs=1e-4)
    kept = norm.u.clone()
    norm.eval()(weight)
    assert torch.equal(norm.u, kept)  # no power iteration outside training


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_spectral_norms_gradient_is_autograds(iterations, through, training):
    """Of the iteration as PyTorch's functions write it, in float64; the vectors kept are the same too."""
    torch.manual_seed(iterations)
    weight, gradient = torch.randn(2, 5, 3, 3, 3, dtype=torch.float64)
    norm = SpectralNorm(weight, eps=1e-12, iterations=iterations, through=through).train(training)
    ours, theirs = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    u, v, matrix = norm.u, norm.v, theirs.flatten(1)
    with torch.set_grad_enabled(through):
        for _ in range(iterations if training else 0):
            v = torch.nn.functional.normalize(matrix.T @ u, dim=0)
            u = torch.nn.functional.normalize(matrix @ v, dim=0)
    found, expected = norm(ours), theirs / (u @ (matrix @ v))
    found.backward(gradient), expected.backward(gradient)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(torch.cat([norm.u, norm.v]), torch.cat([u, v]).detach(), rtol=0, atol=1e-15)


def test_spectral_norms_gradient_is_that_of_the_written_out_formula():
    """One iteration from u0 gives sigma = |W W' u0| / |W' u0|. Through the iteration its gradient is this
    formula's; with vectors held constant it is u v'.
    """
    made = torch.Generator().manual_seed(0)
    weight, u0, probe = (
        torch.randn(*shape, generator=made, dtype=torch.float64) for shape in ((6, 4), (6,), (6, 4))
    )
    found = {}
    for through in (True, False):
        norm = SpectralNorm(weight, eps=1e-12, iterations=1, through=through).train()
        norm.u.copy_(u0 / u0.norm())
        w = weight.clone().requires_grad_()
        (norm(w) * probe).sum().backward()
        found[through] = w.grad
    w = weight.clone().requires_grad_()
    sigma = (w @ (w.T @ u0)).norm() / (w.T @ u0).norm()
    (w / sigma * probe).sum().backward()
    torch.testing.assert_close(found[True], w.grad, rtol=1e-10, atol=1e-12)
    sigma, slope = sigma.detach(), (weight * probe).sum() / sigma.detach() ** 2
    torch.testing.assert_close(
        found[False], probe / sigma - slope * torch.outer(norm.u, norm.v), rtol=1e-10, atol=1e-12
    )
    assert (found[True] - found[False]).norm() > 0.05 * found[False].norm()


def test_an_average_of_unit_vectors_serves_where_evaluation_iterates():
    """As with BigGAN-PyTorch's averaged buffers: the length of u does not matter, and nothing is kept."""
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    norm = SpectralNorm(weight, eps=1e-12, iterations=50, through=False, in_evaluation=True).eval()
    norm.u.mul_(0.3), norm.v.mul_(0.3)
    kept = norm.u.clone()
    assert torch.linalg.svdvals(norm(weight))[0] == pytest.approx(1, abs=1e-4) and torch.equal(norm.u, kept)


@pytest.mark.parametrize("channels, keys", [(16, 16), (32, 16), (512, 64)])
def test_a_least_number_of_key_channels(channels, keys):
    """C/8 or 16, whichever is more; the residual control has the parameters of the wider block."""
    recipe = Recipe(key_channels_min=16)
    block = SelfAttention(channels, recipe, sn=False)
    assert block.query.out_channels == block.key.out_channels == keys
    count = lambda block: sum(p.numel() for p in block.parameters())
    assert count(ResidualControl(channels, recipe, sn=False)) == pytest.approx(
        count(block), rel=0.02 if channels > 16 else 0.05
    )


def test_conditional_batch_norm_scales_by_class_and_uses_running_statistics_when_evaluated():
    norm = ConditionalBatchNorm(4, 3, Recipe(bn_momentum=1.0), sn=False)
    torch.nn.init.ones_(norm.gain.weight), torch.nn.init.zeros_(norm.bias.weight)
    norm.gain.weight.data[2] = 5.0
    norm.bias.weight.data[1] = -3.0
    x = torch.randn(64, 4, 5, 5) * 2 + 7
    plain = (x - x.mean((0, 2, 3), keepdim=True)) / torch.sqrt(
        x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5
    )
    for label, gain, bias in ((0, 1, 0), (1, 1, -3), (2, 5, 0)):
        torch.testing.assert_close(
            norm(x, torch.full((64,), label)), plain * gain + bias, rtol=1e-4, atol=1e-4
        )
    shifted = norm.eval()(x + 100, torch.zeros(64, dtype=torch.long))
    assert shifted.mean() > 20  # evaluated with the averages of x, not with its own


def test_tables_that_start_at_random_hold_gains_around_one():
    norm = ConditionalBatchNorm(4, 3, Recipe(cbn_init="init"), sn=False)
    x, labels = torch.randn(8, 4, 5, 5), torch.arange(8) % 3
    gain, bias = (table.weight[labels][:, :, None, None] for table in (norm.gain, norm.bias))
    plain = (x - x.mean((0, 2, 3), keepdim=True)) / torch.sqrt(
        x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5
    )
    torch.testing.assert_close(norm(x, labels), plain * (1 + gain) + bias, rtol=1e-4, atol=1e-4)


def test_batch_norm_over_two_ranks_is_that_of_the_whole_batch(monkeypatch):
    """Two ranks with the same images: means over ranks are those of one, and so many values behind them."""
    monkeypatch.setattr(parallel, "ranks", lambda: 2)
    monkeypatch.setattr(parallel, "mean", lambda t: t)
    x = 3 + torch.randn(3, 4, 2, 2)
    own, whole = BatchNorm(4, Recipe(bn_batch=None), 0.1), torch.nn.BatchNorm2d(4, eps=Recipe().bn_eps)
    torch.testing.assert_close(own(x), whole(torch.cat([x, x]))[:3])
    torch.testing.assert_close(own.running_mean, whole.running_mean)
    torch.testing.assert_close(own.running_var, whole.running_var)


def test_large_feature_maps_never_hold_the_attention_map(monkeypatch):
    monkeypatch.setattr(layers, "attention_weights", lambda *_: pytest.fail("the whole map was computed"))
    monkeypatch.setattr(SelfAttention, "FUSED_FROM", 64)
    block = SelfAttention(16, Recipe(), sn=False)
    assert block(torch.randn(1, 16, 8, 8)).shape == (1, 16, 8, 8)


def test_logits_are_scaled_by_the_root_of_the_key_channels():
    block = SelfAttention(32, Recipe(attention_scale=True), sn=False)
    x = torch.randn(2, 32, 8, 8)
    query, key = block.query(x).flatten(2).transpose(1, 2), block._keys(block.key(x)).flatten(2)
    assert key.shape[1] == 4
    torch.testing.assert_close(block.attention_map(x), torch.softmax(query @ key / 2, -1))
