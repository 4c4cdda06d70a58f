"""The rooms and the ways between them: imports go one way, and only those who need torch import it.

The module of a verb belongs to the command line, whichever room it lies in: it may bring rooms together.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from camelid.cli.main import VERBS

SOURCE = Path(__file__).resolve().parents[1] / "src" / "camelid"

FOUNDATION = {"camelid", "errors", "atomic", "memory", "home", "json_table"}
FRAME = FOUNDATION | {"provenance", "recipe", "recipe_yaml", "run", "progress", "report"}

# Which rooms (packages, or modules beside them) each room may import; itself is understood.
ALLOWED: dict[str, set[str]] = {
    "text": FOUNDATION,
    "lm": FOUNDATION | {"text"},
    "scripted": FOUNDATION | {"lm", "infer"},
    "connect": FOUNDATION | {"lm", "remote", "infer"},
    "remote": FOUNDATION | {"text", "lm"},
    "prompting": FOUNDATION | {"text", "lm"},
    "evals": FRAME | {"text", "lm", "prompting", "data"},
    "model": FOUNDATION,
    "quant": FRAME | {"model", "load", "text"},
    "infer": FRAME | {"text", "lm", "model", "load", "quant"},
    "data": FOUNDATION | {"text"},
    "train": FRAME | {"text", "data", "model", "load"},
    "scaling": FRAME | {"model"},
}
WITHOUT_TORCH = (
    "text",
    "prompting",
    "evals",
    "lm",
    "remote",
    "scripted",
    "connect",
    "recipe",
    "run",
    "report",
    "progress",
    "cli",
    "data.world",
)


def module_of(path: Path) -> str:
    return ".".join(("camelid", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def imports(path: Path) -> Iterator[str]:
    """The camelid modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "camelid")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "camelid":
            assert node.module is not None
            if node.module == "camelid":
                yield from (
                    f"camelid.{alias.name}" if _is_module(alias.name) else "camelid" for alias in node.names
                )
            else:
                yield node.module


def _is_module(name: str) -> bool:
    return (SOURCE / f"{name}.py").exists() or (SOURCE / name).is_dir()


@pytest.mark.parametrize("name", ALLOWED)
def test_imports_go_one_way(name):
    folder = SOURCE / name
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    verbs = {verb.target.split(":")[0] for verb in VERBS.values()}
    strays = {
        f"{path.relative_to(SOURCE)} imports {module}"
        for path in files
        if module_of(path) not in verbs
        for module in imports(path)
        if room(module) not in ALLOWED[name] | {name}
    }
    assert not strays


def test_importing_camelid_imports_no_torch():
    script = "import sys, camelid; print('torch' in sys.modules, dir(camelid)[0])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False")


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_rooms_that_import_no_torch(name):
    base = SOURCE / name.replace(".", "/")
    files = sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
    modules = [module_of(path) for path in files]
    script = f"import sys, importlib\nfor m in {modules}: importlib.import_module(m)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"


def test_transformers_is_imported_to_compare_with_alone():
    offenders = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if path.name != "consumers.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
        if name.split(".")[0] == "transformers"
    ]
    assert not offenders


def test_files_stay_readable():
    """A page that outgrows 330 lines wants to be two."""
    long = {
        path.name: lines
        for path in SOURCE.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 330
    }
    assert not long
