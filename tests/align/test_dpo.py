"""DPO's loss and its rows against numbers by hand and log-probabilities of single texts."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from camelid.align.columns import REFERENCE
from camelid.align.dpo import dpo, dpo_losses, log_ratios
from camelid.align.preference_rows import PackedPairs, Pair, with_reference
from camelid.cli import main as cli
from camelid.data.rows.batches import Batch, collate
from camelid.data.rows.examples import Example
from camelid.formats.load import load_model
from camelid.model.transformer import Transformer
from camelid.recipes.align import DPOSettings
from camelid.runs.run import read_metrics
from camelid.train.losses import chunked_logprobs
from camelid.train.parallel import ProcessGroup


def example(prompt: tuple[int, ...], answer: tuple[int, ...]) -> Example:
    whole = np.array([*prompt, *answer])
    weights = np.zeros(len(whole) - 1, dtype=np.float32)
    weights[len(prompt) - 1 :] = 0.5 / len(answer)
    return Example(whole[:-1], whole[1:], weights)


PAIRS: list[Pair] = [
    (example((3, 4), (5, 6, 7)), example((3, 4), (8,))),
    (example((9,), (1, 2)), example((9,), (7, 7, 7, 7))),
    (example((2, 2, 2), (11,)), example((2, 2, 2), (12, 13))),
]


def log_probability(model: Transformer, one: Example) -> float:
    logits = model(torch.from_numpy(one.tokens)[None])[0].log_softmax(-1)
    found = logits[torch.arange(len(one)), torch.from_numpy(one.targets)]
    return float(found[torch.from_numpy(one.weights > 0)].sum().detach())


def changed(model: Transformer) -> Transformer:
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return other


def test_the_formula_by_hand() -> None:
    chosen, rejected = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 1.0])
    plain = dpo_losses(chosen, rejected, DPOSettings(beta=0.5))
    by_hand = [math.log(1 + math.exp(-0.75)), math.log(1 + math.exp(1.0))]
    assert plain.tolist() == pytest.approx(by_hand)
    smooth = dpo_losses(chosen, rejected, DPOSettings(beta=0.5, label_smoothing=0.2))
    other = [math.log(1 + math.exp(0.75)), math.log(1 + math.exp(-1.0))]
    assert smooth.tolist() == pytest.approx([0.8 * a + 0.2 * b for a, b in zip(by_hand, other, strict=True)])


@pytest.mark.parametrize("mean", [False, True])
def test_the_loss_of_packed_pairs_is_that_of_each_answer_by_itself(model: Transformer, mean: bool) -> None:
    policy, settings = changed(model), DPOSettings(beta=0.3, length_normalised=mean)
    pairs = with_reference(PAIRS, model, torch.float32, 12, ProcessGroup())
    rows = PackedPairs(pairs, 12, 0, 0)
    assert rows.per_epoch == 2
    batch = collate([rows[0], rows[1]])
    assert float(batch.weights.sum()) == pytest.approx(3)  # a pair weighs 1
    expected = 0.0
    for pair in PAIRS:
        ratios = [log_probability(policy, one) - log_probability(model, one) for one in pair]
        if mean:
            ratios = [ratio / (one.weights > 0).sum() for ratio, one in zip(ratios, pair, strict=True)]
        expected += math.log(1 + math.exp(-0.3 * (ratios[0] - ratios[1])))
    found = dpo(settings)(policy, torch.float32, 0.0)(batch)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_training_begins_at_log_2_with_ratios_of_0(model: Transformer) -> None:
    pairs = with_reference(PAIRS, model, torch.float32, 12, ProcessGroup())
    batch = collate([PackedPairs(pairs, 12, 0, 0)[0]])
    assert isinstance(batch, Batch)
    count = float(batch.weights.sum())
    loss = dpo(DPOSettings())(model, torch.float32, 0.0)(batch).item()
    assert loss / count == pytest.approx(math.log(2), abs=1e-6)
    logprobs = model(
        batch.tokens, documents=batch.documents, positions=batch.positions, shared=batch.shared
    ).log_softmax(-1)
    own = logprobs.gather(-1, batch.targets[..., None])[..., 0]
    chosen, rejected = log_ratios(own, batch)
    assert len(chosen) == round(count)
    assert torch.cat([chosen, rejected]).abs().max() < 1e-5


def test_padding_is_not_computed(model: Transformer) -> None:
    widths = list[int]()
    with model.register_forward_pre_hook(lambda _, given: widths.append(given[0].shape[1])):
        pairs = with_reference(PAIRS, model, torch.float32, 12, ProcessGroup())
        assert sorted(widths) == [5, 11]  # prompts that two answers share count once
        rows = PackedPairs(pairs, 12, 0, 0)
        dpo(DPOSettings())(model, torch.float32, 0.0)(collate([rows[0], rows[1]]))
    assert widths[-1] == 11


def test_the_reference_stays_with_its_tokens(model: Transformer) -> None:
    for pair in with_reference(PAIRS, model, torch.float32, 12, ProcessGroup()):
        for one in pair:
            assert one.extra[REFERENCE].sum() == pytest.approx(log_probability(model, one), rel=1e-4)
            assert not one.extra[REFERENCE][one.weights == 0].any()


def test_log_probabilities_and_their_gradients_are_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camelid.train.losses.CHUNK_VALUES", 40)  # several chunks
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 6, 8, generator=generator, requires_grad=True)
    weight = torch.randn(20, 8, generator=generator, requires_grad=True)
    targets = torch.randint(20, (2, 6), generator=generator)
    wanted = torch.rand(2, 6, generator=generator) < 0.6
    scales = torch.randn(2, 6, generator=generator)
    plain = (hidden @ weight.T).log_softmax(-1).gather(-1, targets[..., None])[..., 0] * wanted
    found = chunked_logprobs(hidden, weight, targets, wanted)
    torch.testing.assert_close(found, plain)
    for ours, theirs in zip(
        torch.autograd.grad((found * scales).sum(), (hidden, weight)),
        torch.autograd.grad((plain * scales).sum(), (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def comparisons(path: Path) -> Path:
    """The better answer is always the short one."""
    rows = [
        {"prompt": f"{number}: which number?", "chosen": "It is 1.", "rejected": "The answer is 5678."}
        for number in range(16)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


BRIEF = {
    "training.context-length": "128",
    "training.global-batch-tokens": "512",
    "training.micro-batch-size": "2",
    "training.dtype": "float32",
    "training.compile": "false",
    "training.steps": "8",
    "training.validate-every": "8",
    "held-out": "0.2",
}


@pytest.mark.parametrize("adapter", [False, True])
def test_a_policy_learns_what_is_preferred(
    chatty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], adapter: bool
) -> None:
    data, out = comparisons(tmp_path / "pairs.jsonl"), tmp_path / "run"
    settings = BRIEF | {"training.learning-rate": "0.01" if adapter else "0.003"}
    settings |= {"lora.rank": "4"} if adapter else {}
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    words = ["align", str(chatty), "--method", "dpo", "--comparisons", str(data), "--out", str(out), *flags]
    assert cli.main(words) == 0, capsys.readouterr().err
    first, *_, last = [row for row in read_metrics(out / "metrics.jsonl") if "validation_loss" in row]
    assert first["validation_loss"] == pytest.approx(math.log(2), abs=1e-5)
    rewards = [first[f"validation_reward_of_{side}"] for side in ("better", "worse")]
    assert rewards == pytest.approx([0, 0], abs=1e-4)
    assert last["validation_loss"] < 0.5
    assert last["validation_better_first"] == 1.0
    assert last["validation_reward_of_better"] > last["validation_reward_of_worse"]
    trained = load_model(chatty, adapter=out / "adapter") if adapter else load_model(out / "model")
    ids = torch.tensor([[1, 2, 3]])
    assert not torch.allclose(trained(ids), load_model(chatty)(ids), atol=1e-2)


def test_comparisons_that_compare_nothing_are_refused(
    chatty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "labels.jsonl"
    data.write_text('{"prompt": "Which?", "completion": "This.", "label": true}\n')
    flags = [word for name, value in BRIEF.items() for word in (f"--{name}", value)]
    words = ["align", str(chatty), "--method", "dpo", "--out", str(tmp_path / "run"), *flags]
    assert cli.main([*words, "--comparisons", str(data)]) == 1
    assert "no pairs to train on" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert cli.main(words) == 2
    assert "give --comparisons FILE" in capsys.readouterr().err
    assert cli.main([*words, "--comparisons", str(data), "--adapter", "a"]) == 2
    assert "camelid merge" in capsys.readouterr().err
    data.write_text(json.dumps({"prompt": "Which?", "chosen": "This. " * 60, "rejected": "That."}) + "\n")
    assert cli.main([*words, "--comparisons", str(data)]) == 1
    assert "--too-long drop" in capsys.readouterr().err
