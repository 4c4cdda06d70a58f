"""Attention by blocks against the plain formula: forward, gradients, packed rows, shared heads, compiled."""

import math
from dataclasses import replace

import pytest
import torch
from lineage import empty_cache
from torch._subclasses.fake_tensor import FakeTensorMode

from camelid.model import attention as module
from camelid.model import blocked_attention
from camelid.model.attention import attention, document_starts, past_mask
from camelid.model.cache import LayerCache
from camelid.model.spec import ModelSpec, Window
from camelid.model.transformer import Transformer


def plain_attention(queries, keys, values, documents=None):
    """softmax(q k^T / sqrt(d)) v over all pairs, in float64."""
    group = queries.shape[2] // keys.shape[2]
    q, k, v = (x.double().transpose(1, 2) for x in (queries, keys, values))
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    time = q.shape[2]
    visible = torch.ones(time, time, dtype=torch.bool).tril()
    if documents is not None:
        visible = (visible & (documents[:, :, None] == documents[:, None, :]))[:, None]
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~visible, -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).float()


def random_rows(batch, time, heads, kv_heads, dim, seed=0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(batch, time, heads, dim, generator=generator)
    keys = torch.randn(batch, time, kv_heads, dim, generator=generator)
    values = torch.randn(batch, time, kv_heads, dim, generator=generator)
    documents = (torch.rand(batch, time, generator=generator) < 0.05).cumsum(1)
    return queries, keys, values, documents


def value_and_gradients(function, *rows):
    queries, keys, values, documents = rows
    inputs = [x.clone().requires_grad_() for x in (queries, keys, values)]
    mixed = function(*inputs, documents)
    (mixed * torch.linspace(-1, 1, mixed.numel()).view_as(mixed)).sum().backward()
    return mixed.detach(), *(x.grad for x in inputs)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keeps_probabilities", [False, True])
@pytest.mark.parametrize(
    ("time", "heads", "kv_heads"), [(1, 2, 2), (7, 1, 1), (8, 4, 2), (37, 6, 2), (64, 3, 3), (65, 2, 1)]
)
def test_blocks_equal_the_plain_formula(monkeypatch, time, heads, kv_heads, packed, keeps_probabilities):
    monkeypatch.setattr(blocked_attention, "QUERY_BLOCK", 8)
    monkeypatch.setattr(blocked_attention, "KEY_STEP", 4)
    monkeypatch.setattr(module, "LONGEST_KEPT", 1000 if keeps_probabilities else 0)
    *rows, documents = random_rows(2, time, heads, kv_heads, dim=6)
    documents = documents if packed else None
    ours = value_and_gradients(attention, *rows, documents)
    theirs = value_and_gradients(plain_attention, *rows, documents)
    for mine, truth in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, truth, atol=1e-5, rtol=1e-4)


def test_blocks_of_the_real_size_equal_the_plain_formula():
    *rows, documents = random_rows(2, 300, 4, 2, dim=16)
    for mine, truth in zip(
        value_and_gradients(attention, *rows, documents),
        value_and_gradients(plain_attention, *rows, documents),
        strict=True,
    ):
        torch.testing.assert_close(mine, truth, atol=2e-5, rtol=1e-4)


def test_bfloat16_stays_near_the_plain_formula():
    *rows, documents = random_rows(2, 150, 4, 2, dim=16)
    truth = value_and_gradients(plain_attention, *rows, documents)
    ours = value_and_gradients(attention, *(x.bfloat16() for x in rows), documents)
    for mine, exact in zip(ours, truth, strict=True):
        assert (mine - exact).norm() < 0.01 * exact.norm()


def test_queries_at_positions_see_the_keys_up_to_them():
    queries, keys, values, _ = random_rows(2, 12, 4, 2, dim=6)
    positions = torch.tensor([[8, 9, 10], [3, 4, 5]])
    chosen = queries.gather(1, positions[..., None, None].expand(-1, -1, *queries.shape[2:]))
    cached = attention(chosen, keys, values, cache_mask=past_mask(positions, 12, None, torch.float32))
    whole = plain_attention(queries, keys, values)
    torch.testing.assert_close(cached, whole.gather(1, positions[..., None, None].expand_as(cached)))


@pytest.mark.parametrize(
    ("dtype", "masked", "time", "own_keys"),
    [
        (torch.bfloat16, True, 5, True),  # no kernel for GPUs takes a mask and shared heads
        (torch.float32, False, 7, True),  # nor float32 and shared heads
        (torch.bfloat16, False, 7, False),
        (torch.bfloat16, True, 1, False),  # one token's heads are rows of one product
    ],
)
def test_shared_heads_on_a_gpu_write_down_no_scores(monkeypatch, dtype, masked, time, own_keys):
    given = []

    def fused(q, k, v, mask, *, is_causal, enable_gqa):
        given.append((q.shape[1], k.shape[1], enable_gqa, is_causal))
        assert k.shape == v.shape
        return q

    monkeypatch.setattr(module.F, "scaled_dot_product_attention", fused)
    with FakeTensorMode():
        queries = torch.empty(2, time, 8, 16, device="cuda", dtype=dtype)
        keys = torch.empty(2, 7, 2, 16, device="cuda", dtype=dtype)
        cache_mask = torch.empty(2, 1, time, 7, device="cuda", dtype=dtype) if masked else None
        assert attention(queries, keys, keys, cache_mask=cache_mask).shape == queries.shape
    heads = 2 if time == 1 else 8
    assert given == [(heads, 8 if own_keys else 2, heads == 8 and not own_keys, not masked)]


def test_a_document_is_a_run_of_equal_ids():
    documents = torch.tensor([[5, 5, 2, 2, 2, 9], [0, 1, 1, 1, 4, 4]])
    assert document_starts(documents).tolist() == [[0, 0, 2, 2, 2, 5], [0, 1, 1, 1, 4, 4]]


def small_model():
    spec = ModelSpec.llama(vocab_size=61, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2)
    return Transformer(spec).initialize(3, std=0.3)


def test_packed_documents_equal_separate_ones():
    model, lengths = small_model(), (150, 3, 1, 70)
    tokens = torch.randint(61, (1, sum(lengths)), generator=torch.Generator().manual_seed(0))
    documents = torch.cat([torch.full((n,), index) for index, n in enumerate(lengths)])[None]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    packed = model(tokens, documents=documents, positions=positions)
    separate = torch.cat([model(document) for document in tokens.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(packed, separate, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [None, Window(4, (1,))])
def test_a_prompt_that_nothing_precedes_reads_no_cache(monkeypatch, window):
    model = Transformer(replace(small_model().spec, window=window)).initialize(3, std=0.3)
    tokens = torch.randint(61, (2, 9), generator=torch.Generator().manual_seed(0))
    caches = [empty_cache(model.spec, 2, 16) for _ in range(2)]
    assert caches[0].fresh
    caches[1].fresh = False
    with torch.inference_mode():
        through_the_cache = model(tokens, cache=caches[1])
        monkeypatch.setattr(LayerCache, "read", None)
        alone = model(tokens, cache=caches[0])
    torch.testing.assert_close(alone, through_the_cache, atol=1e-5, rtol=1e-5)
    assert not caches[0].fresh
    torch.testing.assert_close(caches[0].keys, caches[1].keys)
    torch.testing.assert_close(caches[0].values, caches[1].values)


def gradients_of(model, tokens, documents):
    model.zero_grad(set_to_none=True)
    logits = model(tokens, documents=documents)
    logits.logsumexp(-1).sum().backward()
    return [logits.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


def test_recomputed_activations_give_the_same_gradients():
    model = small_model()
    tokens = torch.randint(61, (2, 20), generator=torch.Generator().manual_seed(0))
    documents = (torch.arange(20) // 7).expand(2, -1)
    kept = gradients_of(model, tokens, documents)
    model.recompute_activations = True
    for again, once in zip(gradients_of(model, tokens, documents), kept, strict=True):
        assert torch.equal(again, once)
