"""`camelid eval` and `camelid make` of a server's URL give what they give for the folder that it serves."""

import json
from pathlib import Path
from typing import Any

import pytest

from camelid.cli.main import main
from camelid.engine.engine import Engine
from camelid.formats.hugging_face.checkpoint import save_checkpoint

WORDS = ("cat", "mat", "dogs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, engine: Engine) -> Path:
    path: Path = tmp_path_factory.mktemp("model")
    save_checkpoint(path, engine.model)
    engine.tokenizer.save(path)
    return path


def lines(folder: Path, pattern: str) -> list[dict[str, Any]]:
    [path] = folder.glob(pattern)
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        ["--max-new-tokens", "6", "--allow-cut"],
        ["--max-new-tokens", "6", "--allow-cut", "--samples", "2", "--temperature", "1"],
        ["--program", "likelihood"],
    ],
)
def test_eval(folder: Path, url: str, tmp_path: Path, words: list[str]):
    rows = tmp_path / "rows.jsonl"
    choices = [" cat", " mat", " dogs"]
    questions = [
        {"question": f"the {word} sat on a", "choices": choices, "answer": choices[at]}
        for at, word in enumerate(WORDS)
    ]
    rows.write_text("".join(json.dumps(question) + "\n" for question in questions))
    found = {}
    for name, model in (("here", str(folder)), ("there", url)):
        assert main(["eval", model, "--task", str(rows), "--out", str(tmp_path / name), *words]) == 0
        found[name] = lines(tmp_path / name, "rows.*.jsonl")
    for here, there in zip(found["here"], found["there"], strict=True):
        assert here["completions"] == there["completions"]
        assert here["grades"] == there["grades"]
        sums = [[score["logprob"] for score in line["scores"]] for line in (here, there)]
        assert sums[0] == pytest.approx(sums[1], abs=1e-4)
    assert len(found["there"]) == 3


def test_make(folder: Path, url: str, tmp_path: Path):
    questions = tmp_path / "questions.txt"
    questions.write_text("".join(f"the {word} sat on\n" for word in WORDS))
    texts = {}
    for name, model in (("here", str(folder)), ("there", url)):
        words = ["--max-new-tokens", "12", "--tries", "1", "--least-kept", "0"]
        main(["make", "answers", model, str(questions), "--out", str(tmp_path / name), *words])
        texts[name] = {row["id"]: row["text"] for row in lines(tmp_path / name, "replies.jsonl")}
    assert len(texts["here"]) == 3
    assert texts["here"] == texts["there"]
