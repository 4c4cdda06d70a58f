"""Evaluation end to end over scripted models: records, resuming, gates, comparison, table."""

import io
import json
import re
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.evals.evaluate import CHUNK, compare_evaluations, evaluate, lines_path
from camelid.evals.results import plain_table, print_table, write_results
from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.ensembles import self_consistency
from camelid.prompting.programs import chain_of_thought, direct, few_shot, likelihood
from camelid.tasks.graders import exact, numeric
from camelid.tasks.intervals import wilson
from camelid.tasks.item import Item
from camelid.tasks.task import Task

COUNT = 2 * CHUNK + 5
DOUBLES = Task(
    "doubles", "1", tuple(Item(str(n), f"{n} + {n} = ?", str(2 * n)) for n in range(COUNT)), numeric
)


def number(prompt: Prompt) -> int:
    assert isinstance(prompt, str)
    return int(prompt.removeprefix("Q: ").split()[0])


def good(prompt: Prompt) -> str:
    return f" {2 * number(prompt)}"


def half_good(prompt: Prompt) -> str:
    """Strictly right on multiples of 2, leniently on those of 3 as well."""
    n = number(prompt)
    return f" {2 * n}" if n % 2 == 0 else f" it is {2 * n}" if n % 3 == 0 else " unknown"


class CutLM(LM):
    """Says something and never ends."""

    def complete(self, prompts, sampling: Sampling) -> list[list[Completion]]:
        return [[Completion(" and 1", (), (), "length")] * sampling.samples for _ in prompts]

    def score(self, prompts, continuations) -> list[Score]:
        raise NotImplementedError


def test_values_are_shares_of_right_answers() -> None:
    evaluation = evaluate(DOUBLES, direct(), ScriptedLM(half_good))
    strict, lenient = evaluation.results
    right = len(range(0, COUNT, 2)), len([n for n in range(COUNT) if n % 2 == 0 or n % 3 == 0])
    assert (strict.metric, lenient.metric) == ("accuracy_strict", "accuracy_lenient")
    assert (strict.value, lenient.value) == (right[0] / COUNT, right[1] / COUNT)
    assert strict.interval == wilson(right[0], COUNT)
    assert (strict.task, strict.version, strict.program, strict.shots) == ("doubles", "1", "direct@1", 0)


def test_a_line_for_each_question(tmp_path: Path) -> None:
    evaluate(DOUBLES, direct(), ScriptedLM(good), tmp_path, limit=3)
    rows = [json.loads(line) for line in lines_path(tmp_path, DOUBLES, direct()).read_text().splitlines()]
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    assert rows[2]["prompts"] == ["Q: 2 + 2 = ?\nA:"]
    assert rows[2]["completions"] == [" 4"]
    assert rows[2]["answer"] == "4"
    assert rows[2]["grades"]["accuracy_strict"] == {"extracted": "4", "correct": True}


def _without_times(path: Path) -> list[str]:
    return [re.sub(r'"seconds": [\d.e-]+', "", line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("chat", [False, True])
def test_a_stopped_evaluation_goes_on_and_equals_the_unbroken_one(tmp_path: Path, chat: bool) -> None:
    program = direct(chat=chat)
    answers = [f"{2 * n}" for n in range(COUNT)]
    unbroken = evaluate(DOUBLES, program, ScriptedLM(answers), tmp_path / "whole")
    with pytest.raises(WrongCall, match="asked for more"):
        evaluate(DOUBLES, program, ScriptedLM(answers[: CHUNK + 7]), tmp_path / "broken")
    path = lines_path(tmp_path / "broken", DOUBLES, program)
    with path.open("a") as file:
        file.write('{"id": "64", "prom')  # killed in the middle of a line
    rest = ScriptedLM(answers[CHUNK:])
    resumed = evaluate(DOUBLES, program, rest, tmp_path / "broken")
    assert len(rest.prompts) == COUNT - CHUNK
    assert resumed == unbroken
    assert _without_times(path) == _without_times(lines_path(tmp_path / "whole", DOUBLES, program))
    again = ScriptedLM([])
    assert evaluate(DOUBLES, program, again, tmp_path / "broken") == unbroken


def test_a_terminal_shows_how_many_questions_are_answered(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any file for a terminal
    evaluate(DOUBLES, direct(), ScriptedLM(good), show=True)
    assert f"{COUNT}/{COUNT}" in capsys.readouterr().err
    evaluate(DOUBLES, direct(), ScriptedLM(good))
    assert capsys.readouterr().err == ""


def test_a_larger_limit_asks_only_what_is_new(tmp_path: Path) -> None:
    evaluate(DOUBLES, direct(), ScriptedLM(good), tmp_path, limit=3)
    lm = ScriptedLM(good)
    assert len(evaluate(DOUBLES, direct(), lm, tmp_path, limit=5).records) == 5
    assert len(lm.prompts) == 2
    assert len(evaluate(DOUBLES, direct(), ScriptedLM([]), tmp_path, limit=2).records) == 2


def test_lines_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    evaluate(DOUBLES, direct(), ScriptedLM(good), tmp_path, limit=3, model="a")
    for changed in ({"model": "b"}, {"program": direct(sampling=Sampling(max_new_tokens=9)), "model": "a"}):
        arguments = {"task": DOUBLES, "program": direct(), "lm": ScriptedLM(good), "out": tmp_path, **changed}
        with pytest.raises(CamelidError, match=r"doubles.direct.0-shot.jsonl:1: this line is from another"):
            evaluate(**arguments)
    lines_path(tmp_path, DOUBLES, direct()).write_text("hello\n")
    with pytest.raises(CamelidError, match="not a line of an evaluation"):
        evaluate(DOUBLES, direct(), ScriptedLM(good), tmp_path)


def test_empty_completions_stop_the_evaluation(tmp_path: Path) -> None:
    with pytest.raises(CamelidError, match="every one of 64 replies is empty"):
        evaluate(DOUBLES, direct(), ScriptedLM(lambda _: "\n"), tmp_path)
    corrected = direct(sampling=Sampling(max_new_tokens=9))
    assert len(evaluate(DOUBLES, corrected, ScriptedLM(good), tmp_path).records) == COUNT
    with pytest.raises(CamelidError, match="is empty"):
        evaluate(DOUBLES, chain_of_thought(), ScriptedLM(lambda _: " "), limit=2)


def test_completions_all_cut_stop_the_evaluation_unless_allowed() -> None:
    with pytest.raises(CamelidError, match=r"cut at the length limit.*--max-new-tokens"):
        evaluate(DOUBLES, direct(), CutLM(), limit=3)
    [warning] = evaluate(DOUBLES, direct(), CutLM(), limit=3, allow_cut=True).warnings
    assert "every one of 3 replies was cut at the length limit" in warning
    voted = self_consistency(direct(sampling=Sampling(temperature=1.0)), samples=4)
    with pytest.raises(CamelidError, match="every one of 12 replies was cut"):
        evaluate(DOUBLES, voted, CutLM(), limit=3)


def test_choices_are_graded_by_likelihood(tmp_path: Path) -> None:
    items = tuple(Item(str(n), f"{n}?", "yes", choices=("yes", "no")) for n in range(4))
    lm = ScriptedLM([], logprob=lambda prompt, text: float(("1?" in str(prompt)) == (text == " no")))
    task = Task("even", "1", items, exact)
    evaluation = evaluate(task, likelihood(), lm, tmp_path)
    assert evaluation.grades("accuracy") == [True, False, True, True]
    assert evaluate(task, likelihood(), ScriptedLM([]), tmp_path) == evaluation


def test_comparison_of_two_evaluations() -> None:
    before = evaluate(DOUBLES, direct(), ScriptedLM(half_good))
    after = evaluate(DOUBLES, direct(), ScriptedLM(good))
    comparison = compare_evaluations(before, after, "accuracy_strict")
    assert (comparison.gained, comparison.lost) == (COUNT // 2, 0)
    assert comparison.difference == pytest.approx((COUNT // 2) / COUNT)
    with pytest.raises(CamelidError, match="different questions"):
        compare_evaluations(before, evaluate(DOUBLES, direct(), ScriptedLM(good), limit=9), "accuracy_strict")
    other = Task("halves", "1", DOUBLES.items, numeric)
    with pytest.raises(CamelidError, match="differ in their task"):
        compare_evaluations(before, evaluate(other, direct(), ScriptedLM(good)), "accuracy_strict")
    with pytest.raises(
        WrongCall, match="no metric 'accuracy'; its metrics are accuracy_strict, accuracy_lenient"
    ):
        compare_evaluations(before, after, "accuracy")


def test_table() -> None:
    evaluation = evaluate(DOUBLES, few_shot(DOUBLES.items[:2]), ScriptedLM(lambda _: " 4"), limit=4)
    header, _, strict, _ = plain_table(evaluation.results).splitlines()
    assert header.split() == [
        "|",
        "task",
        "|",
        "version",
        "|",
        "program",
        "|",
        "n-shot",
        "|",
        "metric",
        "|",
        "value",
        "|",
        "±",
        "|",
        "n",
        "|",
        "unparsed",
        "|",
        "cut",
        "|",
        "tied",
        "|",
    ]
    half = wilson(1, 4).half_width
    row = f"| doubles | 1 | few-shot | 2 | accuracy_strict | 0.2500 | {half:.4f} | 4 | 0.0% | 0.0% | |"
    assert strict.split() == row.split()
    captured = io.StringIO()
    print_table(evaluation.results, captured)
    assert captured.getvalue() == plain_table(evaluation.results) + "\n"


def test_results_of_a_folder_gather_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    first = evaluate(DOUBLES, direct(), ScriptedLM(lambda _: " 4"), limit=4)
    second = evaluate(DOUBLES, direct(), ScriptedLM(good), limit=3, model="b")
    for evaluations in ([first], [second], [second]):
        write_results(path, [row for evaluation in evaluations for row in evaluation.results])
    rows = json.loads(path.read_text())["results"]
    assert [(row["model"], row["metric"], row["value"]) for row in rows] == [
        ("", "accuracy_strict", 0.25),
        ("", "accuracy_lenient", 0.25),
        ("b", "accuracy_strict", 1.0),
        ("b", "accuracy_lenient", 1.0),
    ]
    assert (rows[0]["low"], rows[0]["high"]) == (wilson(1, 4).low, wilson(1, 4).high)
    path.write_text("[]")
    with pytest.raises(CamelidError, match="not a file of results"):
        write_results(path, first.results)


def test_a_task_without_questions_is_refused() -> None:
    with pytest.raises(WrongCall, match="no question"):
        evaluate(Task("none", "1", (), exact), direct(), ScriptedLM([]))
