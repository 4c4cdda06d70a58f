"""`camelid align --method verifier` and `camelid eval --verifier`: a verifier that beats the majority."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from camelid.align import solutions
from camelid.cli import main as cli
from camelid.evals import stage
from camelid.lm.scripted import ScriptedLM
from camelid.runs.run import read_metrics

TRAINING = {
    "training.steps": "60",
    "training.context-length": "64",
    "training.global-batch-tokens": "512",
    "training.micro-batch-size": "8",
    "training.learning-rate": "0.01",
    "training.dtype": "float32",
    "training.compile": "false",
    "training.validate-every": "60",
    "held-out": "0.2",
    "samples": "8",
}


def words(base: Path, questions: Path, out: Path, **changes: str) -> list[str]:
    settings = TRAINING | {
        name.replace("__", ".").replace("_", "-"): value for name, value in changes.items()
    }
    given = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return ["align", str(base), "--method", "verifier", "--task", str(questions), "--out", str(out), *given]


def test_a_verifier_learns_to_choose_what_the_majority_gets_wrong(
    base: Path,
    questions: Path,
    guessing: Callable[[], ScriptedLM],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lm = guessing()
    monkeypatch.setattr(solutions, "open_on", lambda *_, **__: lm)
    out = tmp_path / "verifier"
    assert cli.main(words(base, questions, out)) == 0, capsys.readouterr().err
    assert len(lm.prompts) == 32 * 8
    records = read_metrics(out / "metrics.jsonl")
    assert records[0]["validation_right_first"] == 0.5  # a new row rates everything 0
    assert records[-1]["validation_right_first"] > 0.95
    assert records[-1]["validation_squared_error"] < records[0]["validation_squared_error"] / 2

    monkeypatch.setattr(stage, "open_on", lambda *_: guessing())
    evaluated = tmp_path / "evaluated"
    command = ["eval", str(base), "--task", str(questions), "--samples", "8"]
    assert cli.main([*command, "--verifier", str(out / "model"), "--out", str(evaluated)]) == 0
    page = json.loads((evaluated / "colours.verifier.json").read_text())
    at_the_end = page["rows"][-1]
    assert at_the_end["n"] == 8
    assert at_the_end["best of n"]["value"] > 0.85
    assert at_the_end["majority"]["value"] < 0.4
    assert page["p_value"] < 0.001
    assert "samples n" in (evaluated / "colours.verifier.html").read_text()
    [line, *_] = (evaluated / "colours.best_of_8.direct.0-shot.jsonl").read_text().splitlines()
    scores = [sample["score"] for sample in json.loads(line)["samples"]]
    assert json.loads(line)["text"] == json.loads(line)["samples"][scores.index(max(scores))]["text"]

    # Another training asks nothing again, and another verifier's answers are not mixed with these.
    shared = {"solutions": f"{out}-solutions", "training__steps": "2", "training__validate_every": "2"}
    assert cli.main(words(base, questions, tmp_path / "other", **shared)) == 0
    assert len(lm.prompts) == 32 * 8
    again = [
        *command,
        "--verifier",
        str(tmp_path / "other" / "model"),
        "--out",
        str(evaluated),
        "--voters",
        "3",
    ]
    assert cli.main(again) == 1
    assert "another evaluation" in capsys.readouterr().err


def test_what_cannot_be_learned_from_is_refused(
    base: Path,
    questions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(solutions, "open_on", lambda *_, **__: ScriptedLM(lambda _: " The answer is 9."))
    assert cli.main(words(base, questions, tmp_path / "none")) == 1
    assert "none of the 256 sampled solutions are right" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()

    bare = tmp_path / "bare.jsonl"
    rows = [json.loads(line) | {"rationale": ""} for line in questions.read_text().splitlines()]
    bare.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(solutions, "open_on", lambda *_, **__: ScriptedLM(lambda _: " The answer is 1."))
    assert cli.main(words(base, bare, tmp_path / "bare")) == 1
    assert "--verifier.language right" in capsys.readouterr().err

    tight = {"training__context_length": "16", "training__micro_batch_size": "8"}
    assert cli.main(words(base, bare, tmp_path / "tight", verifier__language="right", **tight)) == 2
    assert "raise it, or lower --max-new-tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--verifier", "v"], "give --samples N"),
        (["--verifier", "v", "--samples", "4", "--weighting", "sum"], "leave out --weighting"),
        (["--samples", "4", "--voters", "2"], "give --verifier"),
    ],
)
def test_settings_that_contradict_each_other(
    flags: list[str], problem: str, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["eval", "m", "--task", str(questions), "--out", str(tmp_path), *flags]) == 2
    assert problem in capsys.readouterr().err


def test_a_model_without_a_head_is_no_verifier(
    base: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(base), "--task", str(questions), "--samples", "4", "--out", str(tmp_path)]
    assert cli.main([*words, "--verifier", str(base)]) == 1
    assert "has no value_head" in capsys.readouterr().err
