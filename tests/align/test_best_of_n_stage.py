"""Best of n by hand, and rounds of it through the command line that go on where they were stopped."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from camelid.align.best_of_n import Rated, best_answers, kl_bound, summary, worth_tuning_on
from camelid.align.solutions import Solution
from camelid.cli import main as cli
from camelid.formats.load import load_model
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.report.page import show_cell

Guessing = Callable[[], ScriptedLM]


def rated(*pairs: tuple[str, float]) -> Rated:
    answers = tuple(Solution("Q", text, right=reward > 0) for text, reward in pairs)
    return Rated(answers, tuple(reward for _, reward in pairs))


def test_the_best_different_answers_are_kept() -> None:
    one = rated(("a", 0.5), (" b", 2.0), ("b ", 2.0), ("c", 1.0), ("d", -1.0))
    assert [each.text for each in best_answers(one, 1, -math.inf)] == [" b"]
    assert [each.text for each in best_answers(one, 3, -math.inf)] == [" b", "c", "a"]
    assert [each.text for each in best_answers(one, 9, 1.0)] == [" b", "c"]
    assert best_answers(one, 1, 3.0) == []


def test_empty_answers_and_those_that_were_cut_are_not_tuned_on() -> None:
    texts = (("long", True), ("  ", False), ("short", False))
    answers = tuple(Solution("Q", text, right=True, cut=cut) for text, cut in texts)
    question = Rated(answers, (2.0, 3.0, 1.0))
    assert worth_tuning_on(question) == Rated(answers[2:], (1.0,))
    assert worth_tuning_on(question, allow_cut=True) == Rated((answers[0], answers[2]), (2.0, 1.0))


def test_means_and_the_bound_by_hand() -> None:
    assert summary([rated(("a", 1.0), ("", 0.0)), rated(("c", 0.0)), rated(("", 0.25))]) == {
        "reward": 0.25,
        "best_reward": pytest.approx(1.25 / 3),
    }
    assert summary([]) == {}
    assert kl_bound(1) == 0
    assert kl_bound(4) == pytest.approx(math.log(4) - 0.75)
    # exact: the best of 3 of many equal answers has rank x with density 3 x^2; the sum is of 3 x^2 ln(3 x^2)
    grid = [(step + 0.5) / 20000 for step in range(20000)]
    assert kl_bound(3) == pytest.approx(sum(3 * x * x * math.log(3 * x * x) for x in grid) / 20000, abs=1e-4)


BRIEF = {
    "method": "best-of-n",
    "chat": None,
    "samples": "6",
    "max-new-tokens": "16",
    "held-out": "0.2",
    "training.context-length": "128",
    "training.global-batch-tokens": "512",
    "training.micro-batch-size": "2",
    "training.dtype": "float32",
    "training.compile": "false",
    "training.steps": "2",
    "training.learning-rate": "0.001",
}


def words(base: Path, questions: Path, out: Path, **more: str) -> list[str]:
    settings: dict[str, str | None] = {**BRIEF, "task": str(questions), "out": str(out), **more}
    flags = [word for name, value in settings.items() for word in (f"--{name}", value) if word is not None]
    return ["align", str(base), *flags]


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch, guessing: Guessing) -> list[ScriptedLM]:
    """The scripted models that stand for the one that samples, one for each opening."""
    opened: list[ScriptedLM] = []

    def open_on(*settings: object, **_: object) -> ScriptedLM:
        opened.append(guessing())
        return opened[-1]

    monkeypatch.setattr("camelid.align.solutions.open_on", open_on)
    return opened


def test_rounds_tune_on_right_answers_and_go_on_where_they_were(
    chatty: Path,
    questions: Path,
    tmp_path: Path,
    sampled: list[ScriptedLM],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, more = tmp_path / "run", {"best-of-n.rounds": "2", "best-of-n.keep": "2"}
    assert cli.main(words(chatty, questions, out, **more)) == 0, capsys.readouterr().err
    first, second, after = json.loads((out / "rounds.json").read_text())
    assert 0.1 < first["reward"] < 0.5
    assert first["best_reward"] > first["reward"]
    assert {*second} == {"kept", "reward", "best_reward", "held_out_reward", "held_out_best_reward"}
    assert {*after} == {"held_out_reward", "held_out_best_reward"}
    rows = [json.loads(line) for line in (out / "round-1" / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == first["kept"]
    numbers = {"red": 1, "blue": 2, "green": 3, "black": 4}
    for row in rows:
        asked, reply = (message["content"] for message in row["messages"])
        [right] = [number for colour, number in numbers.items() if f" {colour}?" in asked]
        assert reply == f"It is {right}. The answer is {right}."
    assert len({json.dumps(row) for row in rows}) == len(rows)
    load_model(out / "model")
    asked = [len(lm.prompts) for lm in sampled]
    assert asked[0] == asked[1] == 32 * 6  # every question in each round
    assert 0 < asked[2] < asked[0]  # the held-out ones at the end
    page = (out / "report.html").read_text()
    assert f"from {first['held_out_reward']:.3f} to {after['held_out_reward']:.3f}." in page
    for cell in ("after round 2", f"{second['kept']:,}", show_cell(second["best_reward"])):
        assert cell in page
    (out / "report.html").write_text("")
    assert cli.main(["report", str(out)]) == 0
    assert (out / "report.html").read_text() == page
    (out / "rounds.json").unlink()
    assert cli.main(["report", str(out)]) == 1
    assert "has no round yet" in capsys.readouterr().err
    assert cli.main(words(chatty, questions, out, **more)) == 0
    assert [len(lm.prompts) for lm in sampled[3:]] == [0, 0, 0]
    assert json.loads((out / "rounds.json").read_text()) == [first, second, after]


def test_a_function_rewards_instead_of_the_grader(
    chatty: Path,
    questions: Path,
    tmp_path: Path,
    sampled: list[ScriptedLM],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / "rewards.py", tmp_path / "run"
    file.write_text(
        "def high(completion, id, question, answer):\n"
        "    assert id and question.endswith('?')\n"
        "    return int(completion.split()[2][0]) - int(answer)\n"
    )
    assert cli.main(words(chatty, questions, out, **{"rewarded-by": f"{file}:high"})) == 0
    [first, _] = json.loads((out / "rounds.json").read_text())
    assert first["best_reward"] == pytest.approx(4, abs=0.7)  # the wrong answers are 4 too large
    solved = tmp_path / "solved.jsonl"
    rows = [{"question": f"What is {n}?", "answer": str(n), "rationale": f"It is {n}."} for n in (7, 9)]
    solved.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = {"program": "chain_of_thought", "shots": "1", "exemplars": str(solved)}
    shown |= {"rewarded-by": f"{file}:high"}
    assert cli.main(words(chatty, questions, tmp_path / "shown", **shown)) == 0, capsys.readouterr().err
    for line in (tmp_path / "shown" / "round-1" / "rows.jsonl").read_text().splitlines():
        said = [turn for turn in json.loads(line)["messages"] if turn["role"] == "assistant"]
        assert [turn.get("weight") for turn in said] == [0, None]  # exemplars are not trained
    file.write_text("def high(completion): return None\n")
    assert cli.main(words(chatty, questions, tmp_path / "other", **{"rewarded-by": f"{file}:high"})) == 1
    assert "high returned None" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("texts", "reward", "message"),
    [
        ("abcdef", "equal", ":equal gives all answers to a question the same reward"),
        ("aaaaaa", "long", ":long gives all answers to a question the same reward"),
        ("a     ", "long", "questions at most one answer to each is neither empty nor cut"),
        ("      ", "long", "questions no answer is neither empty nor cut"),
    ],
)
def test_why_no_answer_is_better_than_another_is_said(
    chatty: Path,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    texts: str,
    reward: str,
    message: str,
) -> None:
    """The reward is blamed only where there are answers to choose from."""
    asked = Counter[str]()

    def answer(prompt: Prompt) -> str:
        asked[str(prompt)] += 1
        return texts[asked[str(prompt)] - 1]

    monkeypatch.setattr("camelid.align.solutions.open_on", lambda *_, **__: ScriptedLM(answer))
    file = tmp_path / "rewards.py"
    file.write_text("def equal(completion): return 1\ndef long(completion): return len(completion)\n")
    job = words(chatty, questions, tmp_path / "run", **{"rewarded-by": f"{file}:{reward}"})
    assert cli.main(job) == 1
    assert message in capsys.readouterr().err


def test_what_best_of_n_cannot_do_is_refused(
    chatty: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = words(chatty, questions, tmp_path / "run")
    for extra, message in (
        ((*usual, "--lora.rank", "4"), "leave out --lora.rank"),
        ([word for word in usual if word != "--chat"], "give --chat"),
        ((*usual, "--prompts", str(questions)), "best-of-n takes no --prompts"),
        ((*usual, "--held-out", "0.999"), "all questions are held out"),
        ([word for word in usual if word not in ("--task", str(questions))], "give --task"),
    ):
        assert cli.main([*extra]) == 2
        assert message in capsys.readouterr().err
