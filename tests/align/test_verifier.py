"""The verifier's loss, its masks and its quality, against numbers worked by hand and plain forward passes."""

import itertools

import numpy as np
import pytest
import torch

from camelid.align.verifier import LABEL, RATED, language_example, rated_example, verifier_loss
from camelid.align.verifier_quality import final_values, verifier_quality
from camelid.align.verifier_rows import RatedText
from camelid.data.rows.batches import collate
from camelid.data.rows.packing import PackedExamples
from camelid.model.transformer import Transformer
from camelid.model.values import ValueModel, with_reserved_token
from camelid.train.fit import Setup
from camelid.train.parallel import ProcessGroup

SETUP = Setup(ProcessGroup(), torch.float32, 3)


@pytest.fixture
def valued(model: Transformer) -> ValueModel:
    """A model with a head whose reserved row is not zero."""
    grown, reserved = with_reserved_token(model, model.spec.vocab_size)
    copy = ValueModel.of(grown, reserved, gain=1.7, bias=-0.3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        copy.head.weight[reserved] = torch.randn(copy.spec.hidden_size, generator=generator)
    return copy.eval()


def test_a_rated_solution_is_masked_token_by_token() -> None:
    example = rated_example((5, 6, 7), (8, 9), 1.0)
    assert example.tokens.tolist() == [5, 6, 7, 8, 9]
    assert example.weights.tolist() == example.extra[RATED].tolist() == [0, 0, 0, 1, 1]
    assert example.extra[LABEL].tolist() == [0, 0, 0, 1, 1]
    wrong = rated_example((5, 6, 7), (8, 9), 0.0, every_token=False)
    assert wrong.weights.tolist() == [0, 0, 0, 0, 1]
    assert wrong.extra[LABEL].tolist() == [0, 0, 0, 0, 0]


def test_a_worked_solution_is_masked_token_by_token() -> None:
    example = language_example((5, 6, 7), (8, 9))
    assert example.tokens.tolist() == [5, 6, 7, 8]
    assert example.targets.tolist() == [6, 7, 8, 9]
    assert example.weights.tolist() == [0, 0, 1, 1]
    assert not example.extra[RATED].any()


def test_the_loss_is_that_of_each_text_by_itself(valued: ValueModel) -> None:
    """Packed in one row; values and log-probabilities from forward passes of single texts."""
    texts = [((3, 4), (5, 6, 7), 1.0), ((3, 8, 9), (1, 2), 0.0)]
    prompt, worked = (2, 3, 4), (9, 5)
    examples = [rated_example(*text) for text in texts] + [language_example(prompt, worked)]
    row = PackedExamples(examples, 24, pad_id=0, digest="")[0]
    expected = 0.0
    for question, solution, value in texts:
        logits = valued(torch.tensor([[*question, *solution]]))[0, :, valued.reserved]
        predicted = 1.7 * logits[len(question) :] - 0.3
        expected += (predicted - value).square().sum().item()
    log_probabilities = valued(torch.tensor([[*prompt, *worked]]))[0].log_softmax(-1)
    expected -= (log_probabilities[2, 9] + log_probabilities[3, 5]).item()
    assert verifier_loss(valued)(collate([row])).item() == pytest.approx(expected, rel=1e-5)


def test_gradients_reach_the_head_the_row_and_the_model(valued: ValueModel) -> None:
    row = PackedExamples([rated_example((3, 4), (5, 6), 1.0)], 8, pad_id=0, digest="")[0]
    verifier_loss(valued)(collate([row])).backward()
    logits = valued(torch.tensor([[3, 4, 5, 6]]))[0, 2:, valued.reserved]
    errors = 2 * (1.7 * logits - 0.3 - 1.0)
    assert valued.gain.grad.item() == pytest.approx((errors * logits).sum().item(), rel=1e-4)
    assert valued.bias.grad.item() == pytest.approx(errors.sum().item(), rel=1e-4)
    assert valued.head.weight.grad[valued.reserved].any()
    assert valued.layers[0].self_attn.q_proj.weight.grad.any()


def test_a_new_row_changes_no_other_logit_and_rates_everything_0(model: Transformer) -> None:
    grown, reserved = with_reserved_token(model, model.spec.vocab_size)
    tokens = torch.randint(model.spec.vocab_size, (2, 9), generator=torch.Generator().manual_seed(0))
    assert reserved == model.spec.vocab_size == grown.spec.vocab_size - 1
    assert torch.equal(grown(tokens)[..., :reserved], model(tokens))
    assert not ValueModel.of(grown, reserved)(tokens, output=ValueModel.of(grown, reserved).values).any()


def test_a_spare_row_is_reserved_where_there_is_one(model: Transformer) -> None:
    same, reserved = with_reserved_token(model, model.spec.vocab_size - 3)
    assert same is model
    assert reserved == model.spec.vocab_size - 3


def test_the_quality_is_that_of_all_pairs(valued: ValueModel) -> None:
    dice = np.random.default_rng(0)

    def text(right: bool) -> RatedText:
        ids = dice.integers(50, size=dice.integers(4, 9))
        return RatedText(tuple(ids[:2].tolist()), tuple(ids[2:].tolist()), right)

    held_out = [[text(bool(dice.integers(2))) for _ in range(6)] for _ in range(4)]
    values = {
        one: float(valued(torch.tensor([[*one.prompt, *one.solution]]), output=valued.values)[0, -1].detach())
        for each in held_out
        for one in each
    }
    pairs = [
        values[a] > values[b]
        for each in held_out
        for a, b in itertools.product(each, each)
        if a.right and not b.right
    ]
    quality = verifier_quality(held_out, valued, SETUP)
    assert quality.right_first == pytest.approx(sum(pairs) / len(pairs))
    errors = [(value - one.right) ** 2 for one, value in values.items()]
    assert quality.squared_error == pytest.approx(np.mean(errors), rel=1e-5)
    assert verifier_quality([[text(True)]], valued, SETUP).right_first is None


def test_final_values_come_in_the_order_of_the_texts(valued: ValueModel) -> None:
    texts = [(1, 2, 3, 4, 5), (6, 7), (8, 9, 1)]
    one_by_one = [float(final_values(valued, [text], SETUP)[0]) for text in texts]
    assert final_values(valued, texts, SETUP).tolist() == pytest.approx(one_by_one, rel=1e-5)
