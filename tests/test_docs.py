"""What the documentation says is so: its Python blocks run, its commands parse, its tables name every
verb."""

import ast
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from functools import wraps
from itertools import islice
from pathlib import Path

import matplotlib as mpl
import pytest

import camelid
from camelid.cli import flags
from camelid.cli import main as cli
from camelid.data import world
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import train_tokenizer

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOK = ROOT / "examples" / "first_steps.ipynb"
SHORTER = {
    "steps=300, global_batch_tokens=4096": "steps=2, global_batch_tokens=512, micro_batch_size=2",
    "seed=0), 1000": "seed=0), 40",
}
"""The only things that the tests change in an example: how long it trains, and on how much."""


def blocks(page, language):
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def run_all(sources, where):
    names = {"__name__": "documentation"}
    for number, source in enumerate(sources, 1):
        for long, short in SHORTER.items():
            source = source.replace(long, short)
        exec(compile(source, f"{where}, block {number}", "exec"), names)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the examples ask for: books, chats, a run and a tokenizer, all tiny."""
    stories = list(islice(world.stories("train", 0), 30))
    chats = islice(world.conversations("train", 0), 40)
    books = tmp_path / "data" / "books"
    books.mkdir(parents=True)
    for number, story in enumerate(stories):
        (books / f"{number}.txt").write_text(story, encoding="utf-8")
    rows = [json.dumps({"messages": chat.as_dicts()}) + "\n" for chat in chats]
    (tmp_path / "data" / "chats.jsonl").write_text("".join(rows), encoding="utf-8")
    tokenizer = train_tokenizer(stories, 512)
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=2, num_heads=2, context_length=1024
    )
    folder = tmp_path / "runs" / "first" / "model"
    folder.mkdir(parents=True)
    save_checkpoint(folder, Transformer(spec).initialize(0), special_ids={"eos_token_id": tokenizer.eos_id})
    tokenizer.save(folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README", "python", "checkpoints", "data", "objectives", "quantisation"])
def test_the_blocks_of_a_page_run(name, workplace):
    [page] = [page for page in PAGES if page.stem == name]
    sources = blocks(page, "python")
    assert sources
    run_all(sources, name)


@pytest.mark.slow
def test_the_notebook_runs(workplace):
    mpl.use("Agg")
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    run_all(["".join(cell["source"]) for cell in code], NOTEBOOK.name)


def test_every_shortening_is_still_in_an_example():
    written = (ROOT / "docs" / "python.md").read_text(encoding="utf-8") + NOTEBOOK.read_text(encoding="utf-8")
    assert all(long in written for long in SHORTER)


def test_the_readme_names_every_verb_and_no_other():
    table = re.findall(
        r"^\| `camelid ([a-z -]+)`", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(table) == sorted(cli.VERBS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_names_a_verb_and_flags_that_exist(page, capsys):
    text = page.read_text(encoding="utf-8")
    # A fence that closes a block of another language opens none.
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for language, block in fenced if not language for line in block.splitlines()]
    for line in lines:
        words = shlex.split(line, comments=True) if line.startswith("camelid ") else []
        if len(words) < 2 or words[1].startswith("-"):
            continue
        verb = words[1:3] if " ".join(words[1:3]) in cli.VERBS else words[1:2]
        assert " ".join(verb) in cli.VERBS, line
        assert cli.main([*verb, "--help"]) == 0
        known = set(re.findall(r"--[\w.-]+", capsys.readouterr().out))
        unknown = [word for word in words[2:] if word.startswith("--") and word not in known]
        assert not unknown, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_can_be_called_as_it_stands(page, monkeypatch):
    """Each is parsed to the end and nothing is run; where it begins with a recipe, that is read if it is one
    of ours."""
    monkeypatch.chdir(ROOT)
    # A file of a schema is read where flags are; the pages only name one.
    monkeypatch.setitem(flags.AS_FLAG, "json_schema", (str | None, lambda file: None))
    load = cli._load
    monkeypatch.setattr(cli, "_load", lambda target: wraps(load(target))(lambda *_, **__: None))
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    shown = "".join(content for language, content in blocks if not language).replace("\\\n", " ")
    for line in re.findall(r"(?:^|\| )(camelid [a-z].*)", shown, re.MULTILINE):
        words = shlex.split(line, comments=True)[1:]
        if not any(word.endswith(".yaml") and not Path(word).exists() for word in words[1:3]):
            assert cli.main(words) == 0, line


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:`(\w+)` \| )?([a-z][\w, -]+) \| (?!why|package)", page, re.MULTILINE)
    told = {(extra, name) for extra, names in rows for name in names.split(", ")}
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    assert told == {(extra, re.split(r"[<>=]", one)[0]) for extra, names in groups.items() for one in names}


@pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="needs the extra docs")
def test_the_site_builds_without_a_warning(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    linked = {"index.html", "python/index.html", "examples/first_steps.ipynb", "recipes/index.html"}
    assert all((tmp_path / "site" / name).is_file() for name in linked)


def script(path):
    """A script outside the package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def test_words_to_leave_out_are_found_with_their_lines_and_fail_only_where_new(tmp_path, monkeypatch, capsys):
    words = script(ROOT / ".ci" / "words.py")
    text = "It is written anew.\nseen = set()\nsaid = 1\nA zero\nis no\nlength, and there is no other.\n"
    assert [(rule, line) for rule, line, _ in words.hits(text)] == [
        ("anew", 1),
        ("is no ...", 5),
        ("said, told, seen", 3),
    ]
    page = tmp_path / "README.md"
    page.write_text(text, encoding="utf-8")
    monkeypatch.setattr(words, "ROOT", tmp_path)
    monkeypatch.setattr(words, "BASELINE", tmp_path / "words.json")
    assert words.main(["--record"]) == words.main([]) == 0
    page.write_text("Shorter.\n", encoding="utf-8")
    assert words.main([]) == 0
    page.write_text(f"{text}And anew.\n", encoding="utf-8")
    assert words.main([]) == 1
    assert "README.md:7: anew -> again" in capsys.readouterr().out


def test_the_api_page_is_that_of_the_code():
    writer = script(ROOT / "docs" / "write_api.py")
    listed = [name for names in writer.SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(set(camelid.__all__) - {"__version__"})
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == writer.page(), "run docs/write_api.py"


def test_every_public_name_is_typed_and_loaded_when_used():
    """Names for type checkers, names of the lazy table and names listed are the same, and each has a
    docstring."""
    tree = ast.parse((ROOT / "src" / "camelid" / "__init__.py").read_text(encoding="utf-8"))
    [checked] = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        (alias.asname or alias.name): (node.module, alias.name)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == camelid._PLACES
    assert sorted(camelid.__all__) == sorted([*typed, "__version__"]) == dir(camelid)
    for name in typed:
        assert inspect.getdoc(getattr(camelid, name)), name


def test_what_the_glossary_names_exists():
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    modules = re.findall(r"`([a-z_0-9]+/[a-z_0-9/]+\.py)`", page)
    assert modules
    assert [name for name in modules if not (ROOT / "src" / "camelid" / name).is_file()] == []


def test_what_the_page_about_python_uses_is_importable_from_camelid():
    used = re.findall(
        r"^from (camelid[\w.]*) import", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE
    )
    assert set(used) == {"camelid"}
