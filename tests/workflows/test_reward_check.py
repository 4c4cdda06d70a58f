"""`camelid check --reward`: which degenerate answers a reward pays for."""

import json
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError
from camelid.cli import main as cli
from camelid.evals.rewards import open_reward
from camelid.tasks.reward_function import Sample
from camelid.workflows.degenerate import FILLER, degenerate_answers
from camelid.workflows.reward_check import real_samples, table

FILE = """
def sound(completion, answer):
    end = completion.rstrip().removesuffix(".")
    return float(end.endswith(f"The answer is {answer}")) - len(completion) / 5000
def contains(completion, answer): return float(answer.lower() in completion.lower())
def longest(completion): return len(completion)
def empty(completion): return 1 / len(completion)
"""


@pytest.fixture
def rewards(tmp_path: Path) -> Path:
    path = tmp_path / "rewards.py"
    path.write_text(FILE)
    return path


def test_about_thirty_degenerate_answers_of_which_none_is_the_real_one() -> None:
    samples = real_samples()
    assert len(samples) == 8
    found = degenerate_answers(samples[0], samples[1].completion)
    assert 30 <= len(found) <= 40
    texts = [one.text for one in found.values()]
    assert len(set(texts)) == len(texts)
    assert samples[0].completion not in texts


def test_a_sound_reward_passes_and_the_table_shows_it(
    rewards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", "--reward", f"{rewards}:sound"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("sound: 8 real answers")
    assert len(lines) > 30
    assert all(line.startswith("  ok ") for line in lines[1:])


def test_a_right_answer_to_another_prompt_is_no_degenerate_one(tmp_path: Path) -> None:
    """Of yes and no, the next sample often has the same."""
    path = tmp_path / "rows.jsonl"
    for answers in (["yes"] * 6 + ["no"] * 2, ["yes"] * 8):
        rows = [
            {"question": f"{n}?", "answer": answer, "rationale": f"Step {n}."}
            for n, answer in enumerate(answers)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        real, reward = real_samples([str(path)]), open_reward("exact")
        found = {row.name: row for row in table(reward, real, reward.score(real))}
        assert found["nothing"].reward == 0
        if "no" in answers:
            assert found["the answer to another prompt"].share == 0
        else:
            assert "the answer to another prompt" not in found


def test_a_reward_that_pays_for_degenerate_answers_fails(
    rewards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", "--reward", f"{rewards}:longest"]) == 1
    captured = capsys.readouterr()
    assert f"failed  filler without end: {12 * len(FILLER)} (real answers" in captured.out
    assert "not below the real answer at 100% of the prompts" in captured.out
    assert "  ok      nothing: 0 (real answers" in captured.out
    assert "kinds of degenerate answers are not rated below the real ones: " in captured.err


def test_what_holds_the_answer_may_earn_as_much_but_all_answers_may_not(rewards: Path) -> None:
    real = [Sample(f"How many {n}s?", f"The answer is {n}.", {"answer": str(n)}) for n in (12, 34)]
    reward = open_reward(f"{rewards}:contains")
    rows = {row.name: row for row in table(reward, real, reward.score(real))}
    assert rows["the answer five times"].passes
    assert not rows["all numbers"].passes
    assert not rows["the prompt"].passes  # it names the number
    assert rows["a refusal"].passes


def test_a_reward_that_fails_on_an_answer_is_reported_with_it(
    rewards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", "--reward", f"{rewards}:empty"]) == 1
    assert (
        "failed  nothing: the reward function rewards.py:empty raised ZeroDivisionError"
        in capsys.readouterr().out
    )


def test_real_answers_come_from_conversations_comparisons_and_items(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows: list[dict[str, object]] = [
        {"prompt": f"{n}?", "chosen": f"yes {n}", "rejected": "no", "answer": "yes"} for n in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = real_samples([str(path)])
    assert [one.completion for one in found] == [f"yes {n}" for n in range(0, 16, 2)]
    assert found[0].columns == {"answer": "yes"}
    rows = [{"question": f"{n}?", "answer": str(n)} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"id": "1", "question": "1?", "answer": "1", "choices": None}
    assert real_samples([str(path)])[1] == Sample("1?", "The answer is 1.", columns)
    path.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(CamelidError, match="at least 2 are needed"):
        real_samples([str(path)])


def test_graders_are_rewards_that_compare_with_the_answer() -> None:
    reward = open_reward("numeric")
    right, wrong = (Sample("2 + 2?", text, {"answer": 4}) for text in ("The answer is 4.", "5"))
    assert reward.score([right, wrong]) == [1.0, 0.0]
    with pytest.raises(CamelidError, match="column `answer`, which sample 1 lacks"):
        reward.score([right, Sample("?", "4")])
