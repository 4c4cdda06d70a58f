"""Every accuracy comes with the share of replies that held no answer, that were cut, and of ties."""

import json
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.evals.evaluate import evaluate, lines_path
from camelid.evals.results import plain_table
from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.programs import Attempt, ChoiceScore, direct, likelihood
from camelid.report.comparison import Measured, comparison_table
from camelid.report.values import Estimate
from camelid.tasks.graders import last_word, numeric
from camelid.tasks.item import Item
from camelid.tasks.published.cloze import target_perplexity
from camelid.tasks.record import Record
from camelid.tasks.task import Task
from camelid.workflows.quickstart.page import _unread

SUMS = Task("sums", "1", tuple(Item(str(n), f"{n} + 1 = ?", str(n + 1)) for n in range(4)), numeric)
REPLIES = [" 1", " two", " it is 3", " I think"]
COLOURS = Task(
    "colours",
    "1",
    tuple(Item(str(n), f"{n}?", "red", choices=("red", "blue", "green")) for n in range(4)),
    numeric,
)


class Replies(LM):
    """Gives the replies in turn; the last one is cut."""

    def complete(self, prompts: list[Prompt], sampling: Sampling) -> list[list[Completion]]:
        ends = ["stop", "stop", "stop", "length"]
        return [[Completion(text, (), (), end)] for text, end in zip(REPLIES, ends, strict=True)]  # type: ignore[arg-type]

    def score(self, prompts: object, continuations: object) -> list[Score]:
        raise NotImplementedError


def test_unparsed_and_cut_of_generated_replies(tmp_path: Path) -> None:
    evaluation = evaluate(SUMS, direct(), Replies(), tmp_path)
    strict, lenient = evaluation.results
    assert (strict.value, strict.unparsed, strict.cut, strict.tied) == (0.25, 0.75, 0.25, None)
    assert (lenient.value, lenient.unparsed, lenient.cut, lenient.tied) == (0.5, 0.5, 0.25, None)
    assert plain_table([strict]).splitlines()[-1].split("|")[-4:-1] == [" 75.0%    ", " 25.0% ", "      "]
    assert {"unparsed": 0.75, "cut": 0.25, "tied": None}.items() <= strict.as_dict().items()
    assert evaluate(SUMS, direct(), ScriptedLM([]), tmp_path).results == evaluation.results


def tied(prompt: Prompt, text: str) -> float:
    """A tie in the first question, all choices equal in the second."""
    if str(prompt).startswith("Q: 0"):
        return -1.0 if text != " green" else -2.0
    return -1.0 if str(prompt).startswith("Q: 1") else -float(len(text))


def test_a_tie_is_not_won_by_position(tmp_path: Path) -> None:
    """Nor by the right choice, as in lm-evaluation-harness#2007, helm#737 and trl#1012."""
    evaluation = evaluate(COLOURS, likelihood(), ScriptedLM([], tied), tmp_path)
    accuracy = next(result for result in evaluation.results if result.metric == "accuracy")
    assert (accuracy.value, accuracy.tied, accuracy.unparsed, accuracy.cut) == (0.5, 0.5, None, None)
    assert evaluation.records[0].grades["accuracy"].extracted is None
    assert (
        "in 2 of 4 questions the most probable choices are exactly equal under accuracy;"
        in evaluation.warnings[0]
    )
    line = json.loads(lines_path(tmp_path, COLOURS, likelihood()).read_text().splitlines()[0])
    assert line["grades"]["accuracy"] == {"extracted": None, "correct": False, "tied": True}
    assert evaluate(COLOURS, likelihood(), ScriptedLM([]), tmp_path) == evaluation


def test_equal_choices_are_not_a_tie() -> None:
    items = (Item("1", "?", "red", choices=("red", "red", "blue")),)
    evaluation = evaluate(
        Task("t", "1", items, numeric), likelihood(), ScriptedLM([], lambda _, text: -len(text) / 1)
    )
    assert evaluation.results[0].value == 1.0


@pytest.mark.parametrize(
    ("score", "what"),
    [
        (Score(-1.0, 0, False), "scored on no tokens"),
        (Score(float("nan"), 1, False), "NaN"),
        (Score(-1.0, 1, None), None),
    ],
)
def test_scores_that_say_nothing(score: Score, what: str | None) -> None:
    class One(ScriptedLM):
        def score(self, prompts: list[Prompt], continuations: list[str]) -> list[Score]:  # type: ignore[override]
            return [score for _ in prompts]

    if what is None:
        evaluate(COLOURS, likelihood(), One([]))
        word = (Item("1", "?", "red", endings=("red",)),)
        with pytest.raises(CamelidError, match="does not say which token is the most probable"):
            evaluate(Task("w", "1", word, numeric, judge=last_word), likelihood(), One([]))
        return
    with pytest.raises(CamelidError, match=rf"item 0: .*{what}"):
        evaluate(COLOURS, likelihood(), One([]))


def test_replies_cut_while_the_model_is_thinking_are_not_called_empty() -> None:
    class Thinking(ScriptedLM):
        def complete(self, prompts: list[Prompt], sampling: Sampling) -> list[list[Completion]]:  # type: ignore[override]
            return [[Completion("", (), (), "length")] for _ in prompts]

    with pytest.raises(CamelidError, match=r"cut at the length limit.*raise --max-new-tokens"):
        evaluate(SUMS, direct(), Thinking([]))


def test_a_target_without_probability_has_an_infinite_perplexity() -> None:
    scores = (ChoiceScore(-9999.0, 1, 1, 1),)
    records = [Record(str(n), "a", Attempt((), (), "", scores=scores), {}) for n in range(3)]
    assert target_perplexity(records) == {"perplexity": (float("inf"), None)}


def test_an_answer_context_without_probability() -> None:
    lm = ScriptedLM([], lambda prompt, text: float("-inf") if str(prompt) == "A:" else -1.0)
    with pytest.raises(CamelidError, match="leave out --answer-context"):
        evaluate(COLOURS, likelihood(answer_context=True), lm)


def test_the_quickstarts_page_shows_both_shares() -> None:
    evaluation = evaluate(SUMS, direct(), Replies())
    assert list(_unread({"16-bit": (evaluation,)}, ["sums"])) == [("sums", "75.0 (25.0)")]


def test_a_comparison_shows_both_shares() -> None:
    row = Measured(
        "a", None, None, "a", 1.0, 2.0, 3.0, 4.0, 5.0, Estimate(50.0, 40.0, 60.0), unparsed=7.5, cut=2.5
    )
    table = comparison_table([row])
    shown = dict(zip(table.columns, table.rows[0], strict=True))
    assert (shown["unparsed, %"], shown["cut, %"]) == (7.5, 2.5)


def test_settings_of_a_server_need_a_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--task",
        "world/coin_flip",
        "--out",
        str(tmp_path / "out"),
        "--model-name",
        "m",
        "--retries",
        "1",
    ]
    assert main(["eval", str(tmp_path), *words]) == 2
    assert "--model-name, --retries: only for the URL of a server" in capsys.readouterr().err
