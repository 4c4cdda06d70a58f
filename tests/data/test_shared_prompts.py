"""Answers that attend to one copy of their prompt, against each with a prompt of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from camelid.base.errors import WrongCall
from camelid.data.rows.batches import Batch, collate
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import lay_out
from camelid.data.rows.shared_prompts import joined, shared_lengths
from camelid.model import attention, blocked_attention
from camelid.model.spec import Learned, ModelSpec, RelativeBuckets, Window
from camelid.model.transformer import Transformer

LLAMA = ModelSpec.llama(
    vocab_size=40, hidden_size=24, num_layers=2, num_heads=4, num_kv_heads=2, context_length=64
)
SPECS = {
    "llama": LLAMA,
    "a window": replace(LLAMA, window=Window(5)),
    "learned positions": replace(LLAMA, positions=Learned()),
    "parallel blocks": replace(LLAMA, parallel=True, num_kv_heads=1),
}


def answered(prompt: list[int], answer: list[int]) -> Example:
    whole = np.array([*prompt, *answer])
    weights = np.zeros(len(whole) - 1, np.float32)
    weights[len(prompt) - 1 :] = np.arange(1, len(answer) + 1)
    return Example(whole[:-1], whole[1:], weights, {"extra": weights / 3})


def answers(seed: int = 0) -> list[Example]:
    """Two prompts with three and two answers of different lengths, and one without another answer."""
    draw = np.random.default_rng(seed)
    prompts = [draw.integers(1, 40, size).tolist() for size in (9, 4, 6)]
    return [
        answered(prompts[prompt], draw.integers(1, 40, size).tolist())
        for prompt, size in ((0, 3), (0, 1), (0, 7), (1, 5), (1, 2), (2, 4))
    ]


def rows_of(examples: list[Example]) -> Batch:
    width = max(map(len, examples)) + 3
    batch = collate([lay_out([each], width, 0) for each in examples])
    assert isinstance(batch, Batch)
    return batch


def values_and_gradient(model: Transformer, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """log p of the targets, and the gradient of their weighted sum."""
    model.zero_grad()
    logits = model(
        batch.tokens, positions=batch.positions, documents=batch.documents, shared=batch.shared
    ).log_softmax(-1)
    found = logits.gather(-1, batch.targets[..., None])[..., 0]
    (found * batch.weights).sum().backward()
    gradients = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
    return found.detach(), torch.cat(gradients)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("block", [4, 128])
@pytest.mark.parametrize("kept", [0, 1000])
@pytest.mark.parametrize("name", SPECS)
def test_values_and_gradients_are_those_of_rows_of_their_own(
    name: str, kept: int, block: int, single: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked_attention, "QUERY_BLOCK", block)
    monkeypatch.setattr(blocked_attention, "KEY_STEP", 2)
    monkeypatch.setattr(attention, "LONGEST_KEPT", kept)
    model, batch = Transformer(SPECS[name]).initialize(0, std=0.3), rows_of(answers())
    found = joined(batch, single=single)
    assert found.batch.shared is not None
    assert len(found.batch.tokens) == (1 if single else 3)
    expected, expected_gradient = values_and_gradient(model, batch)
    values, gradient = values_and_gradient(model, found.batch)
    trained = batch.weights > 0
    torch.testing.assert_close(
        found.apart(values, batch.weights)[trained], expected[trained], rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [None, 5])
def test_the_mask_of_other_devices_says_the_same(window: int | None) -> None:
    """A CPU never uses the mask in training; computed by it, attention is the same."""
    batch = joined(rows_of(answers())).batch
    queries, keys, values = torch.randn(3, 1, batch.tokens.shape[1], 2, 6).unbind()
    ours = attention.attention(queries, keys, values, batch.documents, shared=batch.shared, window=window)
    mask = attention.causal_mask(queries.transpose(1, 2), batch.documents, window, batch.shared)
    q, k, v = (each.transpose(1, 2) for each in (queries, keys, values))
    other = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2)
    torch.testing.assert_close(ours, other)
    by_hand = torch.zeros_like(mask[0, 0])
    documents, positions = batch.documents[0].tolist(), batch.positions[0].tolist()
    root = 0
    for query, document in enumerate(documents):
        if positions[query] == 0:
            root = query
        for key in range(query + 1):
            prompt = root <= key and documents[key] == documents[root] and document != documents[root]
            visible = documents[key] == document or (prompt and key - root < int(batch.shared[0, query]))
            near = window is None or positions[query] - positions[key] < window
            by_hand[query, key] = visible and near
    assert torch.equal(mask[0, 0], by_hand)


def test_a_prompt_is_laid_out_once() -> None:
    batch = joined(rows_of(answers())).batch
    assert batch.tokens.shape == (1, (9 + 2) + 1 + 7 + (4 + 4) + 2 + (6 + 3))
    assert batch.shared is not None
    assert batch.shared[0].tolist() == [0] * 11 + [8] * 8 + [0] * 8 + [3] * 2 + [0] * 9
    assert batch.positions[0, :20].tolist() == [*range(11), 8, *range(8, 15), 0]
    assert float(batch.weights.sum()) == sum(float(each.weights.sum()) for each in answers())
    torch.testing.assert_close(batch.extra["extra"] * 3, batch.weights)


def test_prompts_without_another_answer_are_rows_without_padding() -> None:
    examples = answers()[2::3]
    batch = joined(rows_of(examples)).batch
    assert batch.shared is None
    assert batch.tokens.shape == (1, sum(map(len, examples)))


def test_long_answers_begin_a_new_row_of_their_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camelid.data.rows.shared_prompts.LONGEST_ROW", 14)
    batch = joined(rows_of(answers()[:3])).batch
    assert batch.shared is not None
    assert batch.shared[0].tolist() == [0] * 11 + [8] + [0] * 15


def test_what_answers_have_in_common_ends_before_what_is_trained() -> None:
    alike = [answered([1, 2, 3], [4, 5]), answered([1, 2, 3], [4, 6]), answered([1, 9, 3], [4])]
    assert shared_lengths(alike) == [0, 2, 1]
    assert shared_lengths([answered([1], [4, 5]), answered([1], [4, 6])]) == [0, 0]


def test_rows_that_leave_tokens_out_are_not_mixed_with_others() -> None:
    pieces = answers()[:2]
    rows = [lay_out(pieces, 24, 0, shared_lengths(pieces)), lay_out(pieces, 24, 0)]
    with pytest.raises(WrongCall, match="1 of 2 rows of one batch"):
        collate(rows)


def test_relative_biases_refuse_a_shared_beginning() -> None:
    spec = replace(LLAMA, positions=RelativeBuckets(8, 16))
    batch = joined(rows_of(answers())).batch
    with pytest.raises(TypeError, match="no fixed distance"):
        Transformer(spec)(batch.tokens, documents=batch.documents, shared=batch.shared)
