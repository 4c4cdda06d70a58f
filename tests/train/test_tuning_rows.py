"""Tuning on rows that a template refuses or dates, and what it shows of them at the start."""

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from camelid.cli import main as cli
from camelid.runs.run import list_checkpoints, read_metrics
from camelid.text.chat_template import CHATML
from camelid.train.training_rows import ROWS

DATED = (
    "{{- '<|im_start|>system\n' + strftime_now('%d') + '<|im_end|>\n' }}"
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- "
    "endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
TAKES_TURNS = CHATML.replace(
    "{%- for message in messages -%}",
    "{%- for message in messages -%}{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('roles must take turns') }}{%- endif -%}",
)
Words = Callable[..., list[str]]


@pytest.fixture
def base(tmp_path: Path, pretrained: Path) -> Callable[[str], Path]:
    """A copy of the pretrained model with another template."""

    def with_template(template: str) -> Path:
        folder = tmp_path / "base"
        shutil.copytree(pretrained / "model", folder)
        (folder / "chat_template.jinja").write_text(template)
        return folder

    return with_template


@pytest.fixture
def on_day(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes it the given day of a month, for the run and for templates."""

    def set_day(number: int) -> None:
        class Day(datetime.date):
            @classmethod
            def today(cls) -> "Day":
                return cls(2026, 11, number)

        class Moment(datetime.datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime.datetime:  # type: ignore[override]
                return datetime.datetime(2026, 11, number, 12, 0)

        monkeypatch.setattr("camelid.train.stages.date", Day)
        monkeypatch.setattr("camelid.text.chat_template.datetime", Moment)

    return set_day


def tune(model: Path, data: Path, out: Path, *words: str) -> list[str]:
    training = ["--training.steps", "6", "--training.context-length", "64", "--training.dtype", "float32"]
    sizes = ["--training.global-batch-tokens", "128", "--training.checkpoint-every", "2"]
    plain = [
        "--training.compile",
        "false",
        "--data.validation-fraction",
        "0.2",
        "--training.keep-checkpoints",
        "9",
    ]
    return [
        "tune",
        str(model),
        "--data.train",
        str(data),
        "--out",
        str(out),
        *training,
        *sizes,
        *plain,
        *words,
    ]


def rows(path: Path, *contents: list[tuple[str, str]]) -> Path:
    turns = [[{"role": role, "content": text} for role, text in row] for row in contents]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in turns))
    return path


def sums(count: int) -> list[list[tuple[str, str]]]:
    return [[("user", f"What is {n} and one?"), ("assistant", f"It is {n + 1}.")] for n in range(count)]


def losses(out: Path) -> list[tuple[Any, Any]]:
    return [
        (record.get("loss"), record.get("validation_loss")) for record in read_metrics(out / "metrics.jsonl")
    ]


def test_a_run_keeps_the_day_on_which_it_began(
    tmp_path: Path, base: Callable[[str], Path], on_day: Callable[[int], None]
):
    model, data = base(DATED), rows(tmp_path / "rows.jsonl", *sums(12))
    on_day(7)
    assert cli.main(tune(model, data, tmp_path / "unbroken")) == 0
    assert cli.main(tune(model, data, tmp_path / "out")) == 0
    for checkpoint in list_checkpoints(tmp_path / "out")[1:]:
        shutil.rmtree(checkpoint.folder)
    shutil.rmtree(tmp_path / "out" / "model")
    on_day(8)
    assert cli.main(tune(model, data, tmp_path / "out")) == 0
    assert losses(tmp_path / "out") == losses(tmp_path / "unbroken")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["date"] == "2026-11-07"
    assert cli.main(tune(model, data, tmp_path / "another")) == 0
    assert losses(tmp_path / "another") != losses(tmp_path / "unbroken")
    assert json.loads((tmp_path / "another" / "run.json").read_text())["date"] == "2026-11-08"


def test_a_run_on_other_rows_does_not_go_on(
    tmp_path: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
):
    """The same files and recipe can give other rows to another version."""
    data, out = rows(tmp_path / "rows.jsonl", *sums(12)), tmp_path / "out"
    assert cli.main(tune(pretrained / "model", data, out)) == 0
    assert json.loads((out / "run.json").read_text())["date"] is None
    digests = json.loads((out / ROWS).read_text())
    (out / ROWS).write_text(json.dumps(digests | {"train": "0"}))
    assert cli.main(tune(pretrained / "model", data, out)) == 2
    assert "the train rows are not those that the run began with" in capsys.readouterr().err
    (out / ROWS).write_text(json.dumps(digests))
    assert cli.main(tune(pretrained / "model", data, out)) == 0


def test_rows_that_the_template_refuses(
    tmp_path: Path, base: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
):
    early = [("assistant", "Hi"), ("user", "One and two?"), ("assistant", "Three.")]
    model, data = base(TAKES_TURNS), rows(tmp_path / "rows.jsonl", *sums(20), early)
    out = tmp_path / "out"
    assert cli.main(tune(model, data, out)) == 1
    assert (
        f"{data}:21: the chat template rejects the conversation: roles must take turns"
        in capsys.readouterr().err
    )
    assert not out.exists()
    assert cli.main(tune(model, data, out, "--data.skip-bad-rows")) == 0
    shown = capsys.readouterr().err
    assert "20 conversations of shape OpenAI, 1 bad rows skipped" in shown
    assert f"skipped {data}:21: the chat template rejects the conversation" in shown
    assert cli.main(["check", str(data), "--model", str(model)]) == 1
    assert cli.main(["check", str(data), "--model", str(model), "--skip-bad-rows"]) == 0
    assert f"skipped {data}:21: the chat template rejects" in capsys.readouterr().out


def test_calls_of_wrong_types_leave_nothing_behind(
    tmp_path: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
):
    data, out = tmp_path / "rows.jsonl", tmp_path / "out"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": [3]}]
    data.write_text(json.dumps({"messages": turns}) + "\n")
    assert cli.main(tune(pretrained / "model", data, out)) == 1
    assert f"{data}:1: messages[1].tool_calls[0] is int" in capsys.readouterr().err
    assert not out.exists()


def test_the_start_shows_rows_with_their_trained_tokens(
    tmp_path: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
):
    data = rows(tmp_path / "rows.jsonl", *sums(20))
    for show in (2, 0):
        assert cli.main(tune(pretrained / "model", data, tmp_path / str(show), "--show", str(show))) == 0
        shown = capsys.readouterr().err
        assert shown.count("[[It is ") == show
        assert ("assistant\n[[It is 1.<|im_end|>]]" in shown) == (show > 0)
    assert cli.main(["check", str(data), "--model", str(pretrained / "model"), "--show", "3"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("[[It is ") == 3
    assert f"{data}:3: " in shown
    assert cli.main(["check", str(data), "--show", "-1"]) == 2


def test_keys_that_the_template_does_not_show_are_named(
    tmp_path: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "rows.jsonl"
    row = {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "mood": "glad"}]
    }
    data.write_text("".join(json.dumps(row | {"id": n}) + "\n" for n in range(3)))
    assert cli.main(["check", str(data), "--model", str(pretrained / "model")]) == 0
    shown = capsys.readouterr().out
    assert "does not show these keys of the rows: " in shown
    assert f"messages[].mood (3 rows, first {data}:1)" in shown
    assert f"id (3 rows, first {data}:1)" in shown
