"""`camelid eval` of a server: which model answered is part of what identifies the results."""

import inspect
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Answer, Script

from camelid.cli.main import main
from camelid.lm.remote import RemoteLM
from camelid.recipes.server import ServerSettings


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        server.answer = lambda path, body: Answer(
            {"choices": [{"text": f" {len(body['model'])}", "finish_reason": "stop"}]}
        )
        yield server
        server.shutdown()


@pytest.fixture
def call(script: Script, tmp_path: Path) -> list[str]:
    rows = tmp_path / "lengths.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{n}?", "answer": "5"}) + "\n" for n in range(3)))
    return ["eval", script.url, "--task", str(rows), "--out", str(tmp_path / "out")]


def results(tmp_path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    return found


def test_another_model_behind_the_same_url(
    script: Script, call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(call) == 0
    assert [row["model"] for row in results(tmp_path)] == [f"{script.url}/v1 llama"] * 2
    asked = len(script.asked)
    assert main(call) == 0, "the same evaluation again"
    assert len(script.asked) == asked == 3
    script.models = {"data": [{"id": "other-model"}]}
    assert main(call) == 1
    assert "this line is from another evaluation" in capsys.readouterr().err
    assert len(script.asked) == asked


def test_model_name(
    script: Script, call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.models = {"data": [{"id": "a"}, {"id": "b"}]}
    assert main(call) == 1
    assert "has several models: a, b; choose one with --model-name" in capsys.readouterr().err
    assert main([*call, "--model-name", "b"]) == 0
    assert {body["model"] for _, body, _ in script.asked} == {"b"}
    assert [row["model"] for row in results(tmp_path)] == [f"{script.url}/v1 b"] * 2


def test_flags_and_python_have_the_same_defaults() -> None:
    settings = ServerSettings()
    parameters = inspect.signature(RemoteLM).parameters
    for name in ("parallel", "timeout", "retries", "longest_wait"):
        assert parameters[name].default == getattr(settings, name), name


@pytest.mark.parametrize("verb", [["generate", "--prompt", "x"], ["chat"]])
def test_model_name_in_the_terminal(
    script: Script, verb: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script.models = {"data": [{"id": "a"}, {"id": "b"}]}
    script.answers = [Answer({"choices": [{"message": {"content": "Hi"}}]})]
    script.answer = None
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert main([verb[0], script.url, *verb[1:], "--model-name", "b"]) == 0
    assert capsys.readouterr().out == "Hi\n"
    assert script.asked[0][1]["model"] == "b"
