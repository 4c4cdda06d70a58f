"""`camelid eval` from the command line, over a scripted model and a real one."""

import json
import math
from pathlib import Path

import pytest

from camelid.cli.main import main
from camelid.engine.open_lm import model_identity
from camelid.lm.scripted import ScriptedLM

ROWS = [{"question": f"{n} + 1 = ?", "answer": str(n + 1), "rationale": f"{n} and 1."} for n in range(4)]


@pytest.fixture
def lm(monkeypatch: pytest.MonkeyPatch) -> ScriptedLM:
    scripted = ScriptedLM(lambda _: " The answer is 2.", lambda _, text: -float(len(text)))
    monkeypatch.setattr("camelid.evals.stage.open_on", lambda *settings: scripted)
    return scripted


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def test_table_on_standard_output_and_files_in_the_folder(
    lm: ScriptedLM, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "eval",
        "m",
        "--task",
        rows,
        "--task",
        "world/coin_flip",
        "--limit",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[1::2][:1] == ["sums"]
    assert [line.split("|")[6].strip() for line in lines[2:]] == ["0.3333", "0.3333", "0.0000", "0.0000"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "answers.html",
        "results.json",
        "sums.direct.0-shot.jsonl",
        "world.coin_flip.test.direct.0-shot.jsonl",
    }
    asked = len(lm.prompts)
    assert main(words) == 0
    assert len(lm.prompts) == asked == 6


@pytest.mark.parametrize(
    ("flags", "prompt"),
    [
        (["--program", "few_shot", "--shots", "1"], "Q: 7 + 1 = ?\nA: 8\n\nQ: 0 + 1 = ?\nA:"),
        (["--program", "chain_of_thought", "--shots", "1"], "A: Seven. The answer is 8.\n\nQ: 0 + 1 = ?\nA:"),
    ],
)
def test_exemplars_come_from_their_file(
    lm: ScriptedLM, rows: str, tmp_path: Path, flags: list[str], prompt: str
) -> None:
    solved = tmp_path / "solved.jsonl"
    solved.write_text(json.dumps({"question": "7 + 1 = ?", "answer": "8", "rationale": "Seven."}))
    words = ["eval", "m", "--task", rows, "--out", str(tmp_path / "out"), "--exemplars", str(solved), *flags]
    assert main(words) == 0
    assert str(lm.prompts[0]).endswith(prompt)


def test_numbers_are_asked_for_in_numerals(lm: ScriptedLM, rows: str, tmp_path: Path) -> None:
    assert (
        main(["eval", "m", "--task", rows, "--program", "chain_of_thought", "--out", str(tmp_path / "out")])
        == 0
    )
    assert str(lm.prompts[-1]).endswith("Therefore, the answer (arabic numerals) is")


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 2, "nothing to measure"),
        (["--task", "ROWS", "--program", "few_shot"], 2, "--program few_shot needs --shots"),
        (["--task", "ROWS", "--shots", "2"], 2, "there are 0 exemplars for sums"),
        (["--task", "ROWS", "--shots", "-1"], 2, "--shots is -1"),
        (["--task", "world/coin_flip", "--shots", "2"], 2, "--shots needs --program few_shot"),
        (
            ["--task", "ROWS", "--program", "few_shot", "--shots", "2", "--exemplars", "ROWS"],
            1,
            "itself one of",
        ),
        (["--task", "ROWS", "--answer-context"], 2, "needs --program likelihood"),
        (["--task", "ROWS", "--program", "likelihood"], 2, "no choices to score"),
        (["--task", "ROWS", "--limit", "0"], 2, "limit is 0"),
        (["--task", "world/nothing"], 2, "no such task"),
        (["--task", "sums"], 2, "nearest: world/sums"),
        (["--task", "gsm9k"], 2, "nearest: gsm8k"),
        (["--text", "ROWS"], 2, "needs a model folder"),
        (["--task", "ROWS", "--text", "ROWS"], 2, "needs a model folder"),
    ],
)
def test_wrong_calls(
    lm: ScriptedLM,
    rows: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    code: int,
    message: str,
) -> None:
    words = [rows if flag == "ROWS" else flag for flag in flags]
    assert main(["eval", "m", "--out", str(tmp_path / "out"), *words]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # nothing was asked


def test_a_name_on_the_hub_is_identified_by_its_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """lighteval#1364: what a name stands for may change under it."""
    folder = tmp_path / "snapshots" / "0123456789abcdef"
    monkeypatch.setattr("camelid.formats.hub.resolve", lambda name: folder)
    assert model_identity("org/model") == "org/model@0123456789ab"
    assert model_identity("m") == "m"


def test_a_real_model(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TinyStories-656K predicts its own kind of text far better than a uniform guess of bytes."""
    story = tmp_path / "story.txt"
    story.write_text(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    )
    model = str(shared / "weights/tinystories-656k")
    words = ["--task", "world/coin_flip", "--program", "likelihood", "--limit", "4", "--text", str(story)]
    assert main(["eval", model, *words, "--out", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    metrics = {row["metric"]: row for row in rows}
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)
    assert metrics["bits_per_byte"]["value"] < 1.5
    nats = math.log(metrics["perplexity"]["value"]) * metrics["perplexity"]["n"]
    assert metrics["bits_per_byte"]["value"] == pytest.approx(
        nats / math.log(2) / story.stat().st_size, rel=0.1
    )


def test_perplexity_by_a_published_convention(shared: Path, tmp_path: Path) -> None:
    text = tmp_path / "story.txt"
    text.write_text("One day, Tom and Lily went to the park. They saw a big dog. " * 160)
    words = ["eval", str(shared / "weights/tinystories-656k"), "--text", str(text), "--out", str(tmp_path)]
    for convention in ("overlapping", "llama.cpp"):
        assert main([*words, "--perplexity", convention]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    overlapping, _, llama, _ = rows
    assert [row["program"] for row in (overlapping, llama)] == ["overlapping@1", "llama.cpp@1"]
    assert llama["n"] % 255 == 0, "255 of every 512 tokens"
    assert "second halves" in llama["settings"]["windows"]
