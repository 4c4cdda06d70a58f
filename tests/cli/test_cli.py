"""The command line: one table, quick help, exit codes that scripts can trust, messages instead of
tracebacks."""

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
from tyro.conf import Positional

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.version import __version__
from camelid.cli import main as cli
from camelid.cli.table import Verb
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.tune import TuneRecipe

CAMELID = (sys.executable, "-m", "camelid")


@pytest.fixture
def verb(monkeypatch):
    """Puts a function into the table as `camelid probe`."""

    def register(function):
        module = ModuleType("probe_stage")
        module.probe = function
        monkeypatch.setitem(sys.modules, "probe_stage", module)
        monkeypatch.setitem(cli.VERBS, "probe", Verb("Tests", "probe_stage:probe", "a probe"))

    return register


def raising(error):
    def probe() -> None:
        raise error

    return probe


def test_help_names_every_verb():
    done = subprocess.run([*CAMELID, "--help"], capture_output=True, text=True, check=True)
    for name, entry in cli.VERBS.items():
        assert name in done.stdout
        assert entry.help in done.stdout


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from camelid.cli.main import main; main(['--help']);"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'tyro', 'matplotlib', "
        "'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_output_that_is_no_terminal_is_plain():
    done = subprocess.run([*CAMELID], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert "quickstart" in done.stdout


def test_no_color_is_honoured_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert cli.main(["--help"]) == 0
    assert "\x1b[36m" not in capsys.readouterr().out


def test_sigterm_leaves_nothing_half_written(tmp_path: Path):
    code = (
        "import sys, time; from pathlib import Path; from camelid.base import atomic; "
        "from camelid.cli import main as cli\n"
        "def wait(_):\n"
        f"    with atomic.atomic_folder(Path({str(tmp_path / 'out')!r})): print('there', flush=True); "
        "time.sleep(60)\n"
        "cli._dispatch = wait; sys.exit(cli.main())"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    assert list(tmp_path.iterdir())
    process.terminate()
    assert process.wait(30) == 143
    assert not list(tmp_path.iterdir())


def test_each_group_of_verbs_is_listed_once():
    groups = [verb.group for verb in cli.VERBS.values()]
    assert len([group for group, _ in itertools.groupby(groups)]) == len(set(groups))


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"camelid {__version__}\n"


def test_an_unknown_verb_names_the_nearest(capsys):
    assert cli.main(["quantise"]) == 2
    assert "nearest: quantize" in capsys.readouterr().err
    assert cli.main(["xyzzy"]) == 2
    assert "commands: quickstart" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_exists_and_explains_itself(name, capsys):
    assert cli.main([name, "--help"]) == 0
    assert f"usage: camelid {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CamelidError("no luck"), 1, "camelid: no luck"),
        (WrongCall("no such key"), 2, "camelid: no such key"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("stopped after step 3; its state is saved in runs/a"), 130, "its state is saved"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.bin"), 1, "the disk is full (writing x.bin)"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "the disk is full"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "gone.txt"), 1, "gone.txt: no such file"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "secret"), 1, "secret: permission denied"),
    ],
)
def test_exit_codes_and_messages(verb, capsys, error, code, message):
    verb(raising(error))
    assert cli.main(["probe"]) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_a_fault_of_ours_keeps_its_traceback(verb):
    verb(raising(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


def test_debug_shows_the_traceback(verb, monkeypatch):
    verb(raising(CamelidError("no luck")))
    with pytest.raises(CamelidError):
        cli.main(["probe", "--debug"])
    monkeypatch.setenv("CAMELID_DEBUG", "1")
    with pytest.raises(CamelidError):
        cli.main(["probe"])


def test_a_typed_function_is_a_command(verb, capsys):
    calls = []

    def probe(model: Annotated[str, Positional], *, max_new_tokens: int = 16, chat: bool = False) -> None:
        calls.append((model, max_new_tokens, chat))

    verb(probe)
    assert cli.main(["probe", "m", "--max-new-tokens", "3", "--chat"]) == 0
    assert cli.main(["probe", "m", "--max_new_tokens", "4"]) == 0
    assert calls == [("m", 3, True), ("m", 4, False)]
    assert cli.main(["probe"]) == 2
    assert cli.main(["probe", "m", "--max-new-tokens", "many"]) == 2
    assert cli.main(["probe", "m", "--max-new-tokns", "3"]) == 2
    assert "--max-new-tokens" in capsys.readouterr().err


def test_a_recipe_verb_takes_yaml_and_flags(verb, tmp_path, capsys):
    seen: list[PretrainRecipe] = []

    def probe(recipe: PretrainRecipe) -> None:
        seen.append(recipe)

    verb(probe)
    path = tmp_path / "recipe.yaml"
    path.write_text("tokenizer: t\nout: a\ndata: {train: x}\ntraining: {steps: 5, learning_rate: 1e-3}\n")
    flags = ["--training.learning-rate", "2e-4", "--training.warmup_steps", "2", "--training.compile", "true"]
    assert cli.main(["probe", str(path), "--out", "b", *flags]) == 0
    recipe = seen[0]
    assert (recipe.out, recipe.tokenizer, recipe.training.steps) == (Path("b"), Path("t"), 5)
    assert recipe.training.learning_rate == 2e-4
    assert (recipe.training.warmup_steps, recipe.training.compile) == (2, True)
    # The same without YAML.
    words = ["--tokenizer", "t", "--out", "b", "--data.train", "x", "--training.steps", "5", *flags]
    assert cli.main(["probe", *words]) == 0
    assert seen[1] == recipe
    # Wrong calls.
    for wrong in (["--training.lerning-rate", "3"], ["--training.learning-rate", "-3"], [str(tmp_path)]):
        assert cli.main(["probe", *wrong]) == 2
        assert capsys.readouterr().err


def test_a_recipe_verb_may_begin_with_its_model(verb):
    seen: list[TuneRecipe] = []

    def probe(recipe: TuneRecipe) -> None:
        seen.append(recipe)

    verb(probe)
    words = ["--data.train", "a", "b", "--training.steps", "3", "--out", "o"]
    assert cli.main(["probe", "runs/base", *words]) == 0
    assert seen[0].model == "runs/base"
    assert seen[0].data.train == (Path("a"), Path("b"))


def test_a_reader_that_goes_away_is_no_traceback():
    script = (
        "import sys; from camelid.cli.main import main;"
        "main(['--version']); sys.stdin.readline(); sys.exit(main(['--help']))"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(b"go on\n")
    assert process.returncode == 1
    assert errors == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_onto_a_full_disk_fails_in_words():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*CAMELID, "--version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "camelid: the disk is full; free some space and run the same command again\n"
