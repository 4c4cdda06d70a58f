"""The ranking loss and its rows against numbers by hand, and reward models against transformers'
classifiers."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPTJConfig,
    GPTJForSequenceClassification,
    GPTNeoXConfig,
    GPTNeoXForSequenceClassification,
    MistralConfig,
    MistralForSequenceClassification,
    OPTConfig,
    OPTForSequenceClassification,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

from camelid.align.comparisons import Candidates, Compared, pairs_of, read_comparisons, some_pairs
from camelid.align.reward import PackedCandidates, ranking_loss, ranking_losses, whole_text
from camelid.align.reward_quality import quality_of
from camelid.base.errors import CamelidError
from camelid.cli import main as cli
from camelid.data.rows.batches import collate
from camelid.data.rows.examples import Example
from camelid.engine.reward_model import RewardModel
from camelid.evals.verifier import open_verifier
from camelid.formats.reward import load_reward_model, save_reward_model
from camelid.model.reward import last_values, put_reward_head
from camelid.model.transformer import Transformer
from camelid.prompting.attempt import Attempt
from camelid.recipes.align import AlignRecipe, RewardSettings
from camelid.report.page import show_cell
from camelid.runs.run import read_metrics
from camelid.tasks.item import Item
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer


def answer(*tokens: int) -> Example:
    whole = np.array([3, 4, *tokens])
    return Example(whole[:-1], whole[1:], np.ones(len(whole) - 1, dtype=np.float32))


def candidates(scores: tuple[float, ...], *answers: tuple[int, ...]) -> Candidates:
    return Candidates(
        tuple(answer(*tokens) for tokens in answers), tuple(map(len, answers)), tuple(pairs_of(scores))
    )


FOUR = candidates((0.0, 2.0, 2.0, 5.0), (5, 6), (7,), (8, 9, 10), (11, 12))
TWO = candidates((1.0, 0.0), (20, 21), (22,))


@pytest.fixture(scope="module")
def rated(model: Transformer) -> Transformer:
    other = put_reward_head(copy.deepcopy(model))
    assert other.lm_head is not None
    torch.nn.init.normal_(other.lm_head.weight, generator=torch.Generator().manual_seed(1))
    return other


def test_the_formula_by_hand() -> None:
    better, worse, margin = torch.tensor([2.0, 0.5]), torch.tensor([1.5, 1.5]), torch.tensor([1.0, 3.0])
    plain = ranking_losses(better, worse, margin, RewardSettings())
    assert plain.tolist() == pytest.approx([math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(1.0))])
    both = ranking_losses(better, worse, margin, RewardSettings(margin=0.5, centring=0.01))
    by_hand = [math.log(1 + math.exp(-0.0)) + 0.01 * 3.5**2, math.log(1 + math.exp(2.5)) + 0.01 * 2.0**2]
    assert both.tolist() == pytest.approx(by_hand)


def test_all_pairs_but_ties() -> None:
    assert pairs_of((0.0, 2.0, 2.0, 5.0)) == [(1, 0, 2.0), (2, 0, 2.0), (3, 0, 5.0), (3, 1, 3.0), (3, 2, 3.0)]
    assert len(pairs_of(range(9))) == 36
    assert pairs_of((1.0, 1.0)) == []


def test_the_bound_of_pairs_is_drawn_by_the_prompt() -> None:
    pairs = pairs_of(range(7))
    drawn = some_pairs(pairs, 10, "Why?")
    assert len(set(drawn)) == 10
    assert set(drawn) <= set(pairs)
    assert drawn == some_pairs(pairs, 10, "Why?")
    assert drawn != some_pairs(pairs, 10, "How?")
    assert FOUR.only([Compared(3, 1, 3.0)]).pairs == ((1, 0, 3.0),)


def test_the_loss_of_a_prompt_is_the_mean_over_its_pairs(rated: Transformer) -> None:
    rows = PackedCandidates([FOUR, TWO], 32, 0, 0)
    assert rows.per_epoch == 1  # the answers to both prompts share a row
    batch = collate([rows[0]])
    assert float(batch.weights.sum()) == pytest.approx(2)  # a prompt weighs 1
    settings = RewardSettings(margin=0.3, centring=0.02)
    expected = 0.0
    for each in (FOUR, TWO):
        rewards = [
            float(rated(torch.from_numpy(whole_text(one))[None])[0, -1, 0].detach()) for one in each.examples
        ]
        losses = [
            math.log(1 + math.exp(-(rewards[w] - rewards[b] - 0.3 * m)))
            + 0.02 * (rewards[w] + rewards[b]) ** 2
            for w, b, m in each.pairs
        ]
        expected += sum(losses) / len(losses)
    found = ranking_loss(settings)(rated, torch.float32, 0.0)(batch)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_gradients_are_those_of_separate_answers(rated: Transformer) -> None:
    batch = collate([PackedCandidates([FOUR], 32, 0, 0)[0]])
    packed = copy.deepcopy(rated)
    ranking_loss(RewardSettings())(packed, torch.float32, 0.0)(batch).backward()
    single = copy.deepcopy(rated)
    rewards = [single(torch.from_numpy(whole_text(one))[None])[0, -1, 0] for one in FOUR.examples]
    terms = [-torch.nn.functional.logsigmoid(rewards[w] - rewards[b]) for w, b, _ in FOUR.pairs]
    torch.stack(terms).mean().backward()
    for ours, theirs in zip(packed.parameters(), single.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_quality_by_hand() -> None:
    quality = quality_of([TWO, FOUR], [1.0, 0.0, 0.5, 2.0, 0.0, 0.5], RewardSettings())
    # pairs (better, worse): TWO 1-0; FOUR 2.0-0.5, 0.0-0.5, 0.5-0.5, 0.5-2.0, 0.5-0.0
    assert (quality.better - quality.worse).tolist() == [1.0, 1.5, -0.5, 0.0, -1.5, 0.5]
    assert quality.longer_by.tolist() == [1, -1, 1, 0, 1, -1]
    measures = quality.measures
    assert measures["accuracy"] == pytest.approx(3.5 / 6)
    assert measures["longer_wins"] == pytest.approx(3.5 / 6)
    assert measures["accuracy_if_better_is_longer"] == pytest.approx(1 / 3)
    assert measures["accuracy_if_better_is_shorter"] == 1.0
    sure = [1 / (1 + math.exp(-gap)) for gap in (0.0, 0.5, 0.5, 1.0, 1.5, 1.5)]
    bins = [(sure[:1], [0.5]), (sure[1:3], [0, 1]), (sure[3:4], [1]), (sure[4:], [1, 0])]
    error = sum(abs(sum(known) - sum(right)) for known, right in bins) / 6
    assert measures["calibration_error"] == pytest.approx(error)
    # in order of length: the pairs 2.0-0.5 and 0.5-0.0, 0.5-0.5 and 1-0, 0.0-0.5, 0.5-2.0
    parts = quality.by_length()
    assert [row["pairs"] for row in parts] == [2, 2, 1, 1]
    sigmoid = {gap: 1 / (1 + math.exp(-gap)) for gap in (0.0, 0.5, 1.0, 1.5)}
    assert [row["calibration_error"] for row in parts] == pytest.approx(
        [
            (1 - sigmoid[1.5] + 1 - sigmoid[0.5]) / 2,
            (sigmoid[0.0] - 0.5 + 1 - sigmoid[1.0]) / 2,
            sigmoid[0.5],
            sigmoid[1.5],
        ]
    )


FAMILIES: dict[str, tuple[type[PreTrainedModel], object]] = {
    "gpt2": (GPT2ForSequenceClassification, GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64)),
    "gptj": (GPTJForSequenceClassification, GPTJConfig(n_embd=32, n_layer=2, n_head=2, rotary_dim=8)),
    "neox": (GPTNeoXForSequenceClassification, GPTNeoXConfig()),
    "mistral": (MistralForSequenceClassification, MistralConfig(num_key_value_heads=1, head_dim=16)),
    "opt": (OPTForSequenceClassification, OPTConfig(ffn_dim=64, word_embed_proj_dim=32)),
    "qwen2": (Qwen2ForSequenceClassification, Qwen2Config(num_key_value_heads=1, num_hidden_layers=2)),
}
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize("family", [*FAMILIES])
def test_classifiers_of_transformers_are_read_and_written(family: str, tmp_path: Path) -> None:
    made, config = FAMILIES[family]
    settings = {**SHAPE, "vocab_size": 100, "num_labels": 1, "pad_token_id": 0, "eos_token_id": 1}
    for name, value in settings.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    theirs = made(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_reward_model(tmp_path / "theirs")
    ids = torch.randint(2, 100, (2, 9), generator=torch.Generator().manual_seed(0))
    expected = theirs(ids).logits[:, 0].detach()
    torch.testing.assert_close(
        torch.tensor(last_values(ours, ids.tolist(), 2)), expected, rtol=1e-4, atol=1e-5
    )
    again = tmp_path / "ours"
    again.mkdir()
    save_reward_model(again, ours, special_ids={"pad_token_id": 0}, provenance={})
    back = AutoModelForSequenceClassification.from_pretrained(again).eval()
    assert type(back) is made
    torch.testing.assert_close(back(ids).logits[:, 0].detach(), expected, rtol=1e-4, atol=1e-5)


def rows(path: Path) -> Path:
    """The shortest answer is the best, in pairs and in ranked answers."""
    pairs = [
        {"prompt": f"{number}: which number?", "chosen": "It is 1.", "rejected": "The answer is 5678."}
        for number in range(12)
    ]
    ranked = [
        {
            "prompt": f"{number}: what is it?",
            "answers": [
                {"content": "It is 12.", "score": 3.0},
                {"content": "It is 1234. It is.", "score": 2},
                {"content": "The answer is 5678. It is.", "score": 0.5},
            ],
            "judge": {"name": "brevity", "kind": "grader"},
        }
        for number in range(12)
    ]
    path.mkdir()
    for name, values in (("pairs", pairs), ("ranked", ranked)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    return path


BRIEF = {
    "training.context-length": "256",
    "training.global-batch-tokens": "1024",
    "training.micro-batch-size": "2",
    "training.dtype": "float32",
    "training.compile": "false",
    "training.steps": "8",
    "training.validate-every": "8",
    "held-out": "0.3",
}


def words(base: Path, data: Path, out: Path, **more: str) -> list[str]:
    settings = {**BRIEF, **more}
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return ["align", str(base), "--method", "reward", "--comparisons", str(data), "--out", str(out), *flags]


@pytest.mark.parametrize("adapter", [False, True])
def test_a_reward_model_learns_and_transformers_gives_the_same_scores(
    chatty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], adapter: bool
) -> None:
    more = {"lora.rank": "4", "training.learning-rate": "0.02"} if adapter else {}
    more = more or {"training.learning-rate": "0.003", "reward.centring": "0.01"}
    out = tmp_path / "run"
    assert cli.main(words(chatty, rows(tmp_path / "data"), out, **more)) == 0, capsys.readouterr().err
    first, *_, last = [row for row in read_metrics(out / "metrics.jsonl") if "validation_loss" in row]
    assert first["validation_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["validation_accuracy"] == 0.5
    assert last["validation_accuracy"] == 1.0
    assert last["validation_longer_wins"] == 0.0
    table = json.loads((out / "quality.json").read_text())
    assert sum(row["pairs"] for row in table["by_length"]) == sum(
        row["pairs"] for row in table["calibration"]
    )
    page = (out / "report.html").read_text()
    assert "Accuracy by difference of lengths" in page
    for row in table["by_length"]:
        assert show_cell(row["calibration_error"]) in page
    assert show_cell(table["calibration"][0]["confidence"]) in page
    (out / "report.html").unlink()
    assert cli.main(["report", str(out)]) == 0
    assert (out / "report.html").read_text() == page
    reward = RewardModel.load(out / "model")
    talks = [
        Conversation.of(("3: which number?", text)) for text in ("It is 1.", "The answer is 5678.", "", "It")
    ]
    scores = reward.score(talks)
    assert scores[0] > scores[1]
    theirs = AutoModelForSequenceClassification.from_pretrained(out / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    batch = tokenizer.apply_chat_template(
        [talk.as_dicts() for talk in talks], return_tensors="pt", padding=True, return_dict=True
    )
    assert theirs(**batch).logits[:, 0].tolist() == pytest.approx(scores, rel=1e-4, abs=1e-5)


def test_a_reward_model_chooses_among_attempts(
    rated: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_reward_model(tmp_path, rated, special_ids={}, provenance={})
    tokenizer.save(tmp_path)
    texts = ["It is 1.", "It is 5678.", " "]
    attempts = [Attempt(("Q",), (text,), text) for text in texts]
    found = open_verifier(str(tmp_path), "reward").scorer(Item("q", "Q", "1"), attempts)
    talks = [Conversation.of(("Q", text)) for text in texts[:2]]
    assert found == [*RewardModel.load(tmp_path).score(talks), -math.inf]


def test_a_limit_bounds_the_rows_of_comparisons(tmp_path: Path, tokenizer: Tokenizer) -> None:
    settings = {
        "method": "reward",
        "model": "m",
        "comparisons": [str(rows(tmp_path / "data") / "ranked.jsonl")],
        "training": {"epochs": 1.0, "context_length": 256},
        "held_out": 0.0,
        "out": str(tmp_path / "out"),
    }
    for limit, prompts in ((None, 12), (5, 5), (99, 12)):
        recipe = AlignRecipe.model_validate({**settings, "limit": limit})
        assert len(read_comparisons(recipe, tokenizer, apart=False).train) == prompts


def test_what_cannot_be_compared_is_refused(
    chatty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "rows.jsonl", tmp_path / "run"

    def refused(row: dict[str, object], message: str, **more: str) -> None:
        data.write_text(json.dumps(row) + "\n")
        more = {"held-out": "0", **more}
        assert cli.main(words(chatty, data, out, **more)) == 1
        assert message in capsys.readouterr().err

    pair = {"prompt": "Which?", "chosen": "This.", "rejected": "That."}
    refused(pair, "needs rows that rate", **{"reward.margin": "1"})
    refused({**pair, "margin": -1}, "rows.jsonl:1: the chosen answer is rated 1 below the rejected one")
    refused({**pair, "rejected": "That. " * 40}, "the model's context is 128")
    refused({**pair, "rejected": "That. " * 100}, "--too-long drop")
    refused({**pair, "rejected": "This."}, "no pairs to train on")
    refused(
        {"prompt": "A?", "answers": [{"content": "x", "score": 1}, {"content": "x", "score": 0}]},
        "same tokens",
    )
    refused(
        {"prompt": "A?", "answers": [{"content": "x", "score": 1}, {"content": "y", "rank": 0}]},
        "give one of",
    )
    refused({"prompt": "A?", "answers": [{"content": "x", "score": 1}] * 2}, "no pairs to train on")
    with pytest.raises(CamelidError, match="is not a reward model"):
        RewardModel.load(chatty)
