"""`camelid tune` takes the folder that `camelid make` wrote, and records whose answers they are."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from camelid.cli.main import main
from camelid.lm.scripted import ScriptedLM


def test_a_made_folder_is_tuned_on_by_its_name(
    tune_words: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camelid.makers.stage.open_on", lambda *_: ScriptedLM(lambda _: "Tom took a kite."))
    questions = tmp_path / "questions.txt"
    questions.write_text("".join(f"Who took kite {number}?\n" for number in range(12)))
    made, out = tmp_path / "made", tmp_path / "run"
    words = ["make", "answers", "m", str(questions), "--out", str(made)]
    assert main([*words, "--licence", "MIT", "--terms", "none"]) == 0
    assert main(tune_words(out, data__train=made, training__steps=2)) == 0
    licences = json.loads((out / "model" / "camelid.json").read_text())["licences"]
    assert {"kind": "teacher", "name": "m", "licence": "MIT", "terms": "none"} in licences
