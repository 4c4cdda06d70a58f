"""The rooms and the ways between them: imports go one way, and only those who need torch import it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "camelid"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def allowed_by_the_page() -> dict[str, set[str]]:
    """What each room may import, by the table of docs/architecture.md: lines of `room < room, room`."""
    [block] = [
        each
        for each in re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        if each.startswith("base\n")
    ]
    pairs = [line.partition("<")[::2] for line in block.splitlines()]
    return {
        room.strip(): {name.strip() for name in names.split(",") if name.strip()} for room, names in pairs
    }


ALLOWED = allowed_by_the_page()
WITHOUT_TORCH = re.findall(r"^\| `(\w+)/` \|.*\| no \|$", PAGE, re.MULTILINE)


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


def test_the_page_lists_every_room_from_the_ground_up():
    assert set(ALLOWED) == {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert set(ALLOWED) == set(re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE))
    known: set[str] = set()
    for name, below in ALLOWED.items():
        assert below <= known, f"{name} may import a room that stands above it"
        known.add(name)


@pytest.mark.parametrize("name", ALLOWED)
def test_a_room_imports_what_the_page_says_and_nothing_else(name):
    files = sorted((SOURCE / name).rglob("*.py"))
    found = {(room(module), str(path.relative_to(SOURCE))) for path in files for module in imports(path)}
    strays = {each for each in found if each[0] not in ALLOWED[name] | {name}}
    assert not strays
    assert {each for each, _ in found} - {name} == ALLOWED[name], "the page allows what no file needs"


def test_no_module_stands_beside_the_rooms():
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_importing_camelid_imports_no_torch():
    script = "import sys, camelid; print('torch' in sys.modules, dir(camelid)[0])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False")


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_rooms_that_import_no_torch(name):
    modules = [module_of(path) for path in sorted((SOURCE / name).rglob("*.py"))]
    script = (
        f"import sys, importlib\nfor m in {modules}: importlib.import_module(m)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"


def test_transformers_is_imported_to_compare_with_alone():
    offenders = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if path != SOURCE / "formats" / "verify" / "readers.py"
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


def test_no_two_test_files_have_the_same_name():
    """Where both are collected, pytest refuses the second; one of them alone passes."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not [name for name in set(names) if names.count(name) > 1]
