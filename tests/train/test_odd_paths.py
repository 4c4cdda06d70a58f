"""Paths that are not UTF-8, empty ones, and terminals that cannot show a name: worked with, or refused at
once."""

import json
import os
import subprocess
import sys

import pytest

from camelid.cli import main as cli
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import load_recipe

LATIN = os.fsdecode(b"caf\xe9")
"""The name of a folder from a machine with another encoding."""


def test_data_whose_path_is_not_utf8_trains_a_model_that_is_saved(tmp_path, pretrain_words, text):
    folder, out = tmp_path / LATIN, tmp_path / "out"
    (folder / LATIN).mkdir(parents=True)
    (folder / LATIN / f"{LATIN}.txt").write_bytes(text.read_bytes())
    words = pretrain_words(out, data__train=folder, training__steps=2)
    assert cli.main(words) == 0
    assert (out / "model" / "model.safetensors").is_file()
    assert "caf\\udce9" in (out / "report.html").read_text(encoding="utf-8").lower()
    for file in ("run.json", "model/camelid.json"):
        assert list(json.loads((out / file).read_text(encoding="utf-8"))["data"]) == [str(folder)]
    assert load_recipe(PretrainRecipe, out / "recipe.yaml").data.train == (folder,)
    assert cli.main(words) == 0


def test_a_run_or_a_model_whose_path_is_not_utf8_is_refused_before_anything_is_made(
    tmp_path, pretrain_words, tune_words, text, capsys
):
    calls = [
        pretrain_words(tmp_path / LATIN),
        ["tokenizer", "--data.train", str(text), "--vocab-size", "300", "--out", str(tmp_path / LATIN)],
        ["quantize", str(tmp_path / LATIN), str(tmp_path / "out")],
        ["generate", str(tmp_path / LATIN), "--prompt", "x"],
    ]
    for words in calls:
        assert cli.main(words) == 2, words
        assert "the path is not UTF-8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["pretrain", "--data.train", "x", "--tokenizer", "t", "--training.steps", "1", "--out", ""],
            "empty",
        ),
        (
            ["pretrain", "--data.train", "x", "--tokenizer", "", "--training.steps", "1", "--out", "o"],
            "empty",
        ),
        (["tune", "", "--data.train", "x", "--training.steps", "1", "--out", "o"], "empty path or name"),
        (["tune", "m", "--data.train", "", "--training.steps", "1", "--out", "o"], "--data.train"),
        (["quantize", "m", "--out", ""], "empty"),
        (["quickstart", "--out", ""], "empty"),
        (["generate", "", "--prompt", "x"], "the model is empty"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(words)
    except SystemExit as ended:
        code = ended.code
    shown = capsys.readouterr()
    assert (code, message in shown.err + shown.out) == (2, True), shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
@pytest.mark.parametrize("name", ["zoë.txt", f"{LATIN}.txt"])
def test_what_a_terminal_cannot_show_is_escaped(tmp_path, text, settings, name):
    (tmp_path / name).write_bytes(text.read_bytes())
    command = [sys.executable, "-m", "camelid", "check", name]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | settings, capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    if name.startswith("zoë") and "PYTHONIOENCODING" in settings:
        assert b"zo\\xeb.txt" in done.stdout + done.stderr


def test_a_model_that_no_machine_holds_ends_in_one_message(tmp_path, pretrain_words, capsys):
    assert cli.main(pretrain_words(tmp_path / "out", model__hidden_size=10**10, model__num_heads=10**6)) == 1
    assert "out of memory" in capsys.readouterr().err
