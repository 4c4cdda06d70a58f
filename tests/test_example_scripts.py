"""The scripts in `examples/` run, shortened by their own arguments, each on what the one before it made."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LONGEST = 60
"""Lines of a script; one that needs more is a program."""


def run(name, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.slow
def test_the_examples_run_one_after_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("pretrain.py", monkeypatch, "--steps", 2)
    assert "runs/example/pretrain/model: Once upon a time" in capsys.readouterr().out
    run("tune.py", monkeypatch, "--steps", 2)
    assert "runs/example/tune/model: " in capsys.readouterr().out
    run("evaluate.py", monkeypatch, "--questions", 2)
    said = capsys.readouterr().out
    assert (
        len(re.findall(r"^world/\w+, (?:direct|chain of thought): [01]\.\d\d \(95 %", said, re.MULTILINE))
        == 4
    )
    assert re.search(r"held-out text: \d\.\d{3} bits per byte", said)
    run("generate.py", monkeypatch, "--tokens", 4)
    assert capsys.readouterr().out.count("The sky is ") == 3


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda script: script.name)
def test_an_example_is_short_flat_and_public(script):
    source = script.read_text(encoding="utf-8")
    assert source.count("\n") <= LONGEST
    assert not re.search(r"^(def|class) ", source, re.MULTILINE)
    # The flat API, and the embedded world that the examples are about.
    imported = set(re.findall(r"^(?:from|import) (camelid[\w.]*)(?: import world)?", source, re.MULTILINE))
    assert imported <= {"camelid", "camelid.data"}
