"""Masks of dropout are a function of their seeds: the same in every pass, and never from torch's
generator."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.model.attention import attention, causal_mask
from camelid.model.dropout import Site, derived_seeds, dropout, dropped, kept_values, of_part
from camelid.model.presets import gpt2, palm, t5
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.train.compilation import compile_blocks

SEEDS = torch.tensor([3, 1, 4])
TOKENS = torch.randint(61, (3, 150), generator=torch.Generator().manual_seed(0))
SIZES = {"vocab_size": 61, "context_length": 160}
PLAIN = {
    "gpt2": replace(gpt2(32, 2, 4), **SIZES),
    "llama": ModelSpec.llama(hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, **SIZES),
    "palm": replace(palm(32, 2, 4), **SIZES),
    "t5": replace(t5(32, 2, 4, 64), vocab_size=61),
}
SPECS = {name: replace(spec, dropout=0.2) for name, spec in PLAIN.items()}


@pytest.fixture(autouse=True)
def global_generators_stay():
    """Nothing in this file may draw from a generator that is shared with its user's code."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    yield
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def model_of(name):
    return Transformer(SPECS[name]).initialize(3).train()


def logits_and_gradients(model, tokens=TOKENS, seeds=SEEDS):
    model.zero_grad(set_to_none=True)
    target = (tokens[:, :40],) if model.encoder is not None else ()
    logits = model(tokens, *target, dropout_seeds=seeds)
    logits.float().logsumexp(-1).sum().backward()
    return [logits.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_becomes_zero_and_the_mean_stays(dtype, share):
    x = torch.ones(3, 100, 1000, dtype=dtype)
    result = dropout(x, SEEDS, Site.INNER, share)
    assert result.dtype == dtype
    assert (result == 0).float().mean() == pytest.approx(share, abs=0.003)
    assert result.float().mean() == pytest.approx(1, abs=0.01)
    assert result.unique().tolist() == pytest.approx([0.0, 1 / (1 - share)], rel=4e-3)


def test_nothing_is_dropped_without_seeds_or_share():
    x = torch.ones(3, 5)
    assert dropped(x, 0.5, None, Site.INNER) is x
    assert dropped(x, 0.0, SEEDS, Site.INNER) is x


def test_rows_sites_layers_and_seeds_draw_different_masks():
    device = torch.device("cpu")
    masks = [
        *kept_values((999,), SEEDS, 0.5, device, Site.INNER),
        *kept_values((999,), SEEDS, 0.5, device, Site.FEED_FORWARD),
        *kept_values((999,), derived_seeds(SEEDS, 0), 0.5, device, Site.INNER),
        *kept_values((999,), derived_seeds(SEEDS, 1), 0.5, device, Site.INNER),
    ]
    agreement = torch.stack([(one == other).float().mean() for one in masks for other in masks])
    agreement = agreement.view(len(masks), -1).fill_diagonal_(0.5)
    assert (agreement - 0.5).abs().max() < 0.08  # 5 standard deviations of 999 coins


@pytest.mark.parametrize(
    ("site", "shape", "axis"), [(Site.PROBABILITIES, (4, 5, 6), 1), (Site.INNER, (5, 8), 2)]
)
def test_the_parts_of_several_processes_are_the_mask_of_one(site, shape, axis):
    cpu = torch.device("cpu")
    own = [size // 2 if place == axis else size for place, size in enumerate(shape, 1)]
    parts = [kept_values(own, of_part(SEEDS, part, 2), 0.5, cpu, site) for part in range(2)]
    assert torch.equal(torch.cat(parts, axis), kept_values(shape, SEEDS, 0.5, cpu, site))


def test_the_gradient_is_dropped_as_the_value_is():
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = dropout(x, SEEDS, 0, 0.3)
    y.backward(torch.ones_like(y))
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def test_attention_drops_probabilities_as_written_down():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 200, heads, 8, generator=generator).requires_grad_() for heads in (4, 2, 2))
    documents = (torch.arange(200) // 70).expand(3, -1)
    mixed = attention(q, k, v, documents, dropout=0.3, seeds=SEEDS)

    scores = torch.einsum("bqhd,bkhd->bhqk", q, k.repeat_interleave(2, 2)) / 8**0.5
    weights = scores.masked_fill(~causal_mask(q.transpose(1, 2), documents), -torch.inf).softmax(-1)
    blocks = [
        kept_values((2, 2 * (stop - start), stop), SEEDS, 0.3, q.device, Site.PROBABILITIES, start)
        .view(3, 4, stop - start, stop)
        .float()
        for start, stop in ((0, 128), (128, 200))
    ]
    mask = torch.cat([torch.nn.functional.pad(block, (0, 200 - block.shape[-1])) for block in blocks], 2)
    truth = torch.einsum("bhqk,bkhd->bqhd", weights * mask / 0.7, v.repeat_interleave(2, 2))
    torch.testing.assert_close(mixed, truth)
    upstream = torch.randn(mixed.shape, generator=generator)
    ours, theirs = (torch.autograd.grad(result, (q, k, v), upstream) for result in (mixed, truth))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_passes_repeat_and_recomputed_activations_too(name):
    model = model_of(name)
    first = logits_and_gradients(model)
    for recompute in (False, True):
        for stack in model.stacks:
            stack.recompute_activations = recompute
        again = logits_and_gradients(model)
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    other = logits_and_gradients(model, seeds=SEEDS + 1)
    assert not torch.allclose(first[0], other[0])


@pytest.mark.parametrize("name", SPECS)
def test_a_row_has_the_same_masks_in_any_batch(name):
    model = model_of(name)
    whole = logits_and_gradients(model)
    parts = [logits_and_gradients(model, TOKENS[rows], SEEDS[rows]) for rows in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), whole[0], rtol=1e-4, atol=1e-5)
    for one, two, both in zip(parts[0][1:], parts[1][1:], whole[1:], strict=True):
        torch.testing.assert_close(one + two, both, rtol=1e-3, atol=1e-4)


def test_every_place_of_the_papers_drops():
    # GPT-2: embeddings, probabilities, both sub-layers. T5 (its code): also the inner and the final states.
    seen = []

    def recording(x, seeds, site, share):
        seen.append(Site(site))
        return x

    for name, blocks in (
        ("gpt2", {Site.EMBEDDINGS, Site.ATTENTION, Site.FEED_FORWARD}),
        ("t5", set(Site) - {Site.ADAPTERS}),
    ):
        seen.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("camelid.model.dropout.dropout", recording)
            logits_and_gradients(model_of(name))
        assert set(seen) == blocks


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine")
@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_compiled_blocks_draw_the_masks_of_eager_ones(name):
    model = model_of(name)
    eager = logits_and_gradients(model)
    compile_blocks(model, True)
    for step in range(2):
        compiled = logits_and_gradients(model, seeds=SEEDS + step)
        close = torch.allclose(compiled[0], eager[0], rtol=1e-3, atol=1e-4)
        assert close == (step == 0)
        if step == 0:
            for one, other in zip(compiled, eager, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_training_pass_without_seeds_is_refused():
    model = model_of("gpt2")
    with pytest.raises(CamelidError, match=r"drops 20% of its values in training: pass dropout_seeds"):
        model(TOKENS)
    assert torch.equal(model.eval()(TOKENS), model(TOKENS, dropout_seeds=SEEDS))


def test_a_block_in_evaluation_drops_nothing():
    model = model_of("llama")
    model.layers.eval()
    dropping = []

    def recording(x, seeds, site, share):
        dropping.append(Site(site))
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("camelid.model.dropout.dropout", recording)
        model(TOKENS, dropout_seeds=SEEDS)
    assert dropping == [Site.EMBEDDINGS]
