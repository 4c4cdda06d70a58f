"""A scripted teacher behind the command line, and prompts on disk."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM

Rows = Callable[[str, Sequence[dict[str, Any]]], str]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Writes rows as JSON lines, and gives the file's path."""

    def write(name: str, values: Sequence[dict[str, Any]]) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        return str(path)

    return write


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], ScriptedLM]:
    """Makes a scripted LM the teacher of the command line."""

    def teach(answers: Sequence[str] | Callable[[Prompt], str]) -> ScriptedLM:
        lm = ScriptedLM(answers)
        monkeypatch.setattr("camelid.makers.stage.open_on", lambda *settings: lm)
        return lm

    return teach
