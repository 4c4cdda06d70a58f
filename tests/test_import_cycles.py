"""No two files of the package need each other, counting imports inside functions and those for types
alone."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import camelid

SOURCE = Path(camelid.__file__).resolve().parent
Graph = Mapping[str, set[str]]


def module_of(path: Path) -> str:
    return ".".join((SOURCE.name, *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def imported(tree: ast.AST, modules: set[str]) -> set[str]:
    """The modules that import statements name anywhere in a file: `from a import b` names a, and a.b where
    that is one."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & modules


def import_graph() -> Graph:
    files = {module_of(path): path for path in SOURCE.rglob("*.py")}
    return {
        module: imported(ast.parse(path.read_text(encoding="utf-8")), set(files)) - {module}
        for module, path in files.items()
    }


def cycles(graph: Graph) -> Iterator[set[str]]:
    """The strongly connected components of more than one node (Kosaraju: Sharir 1981)."""
    finished: list[str] = []
    seen: set[str] = set()
    for root in graph:
        _finish(graph, root, seen, finished)
    back: dict[str, set[str]] = {node: set() for node in graph}
    for node, others in graph.items():
        for other in others:
            back[other].add(node)
    seen = set()
    for root in reversed(finished):
        component: list[str] = []
        _finish(back, root, seen, component)
        if len(component) > 1:
            yield set(component)


def _finish(graph: Graph, root: str, seen: set[str], finished: list[str]) -> None:
    """Appends what can be reached from the root and is not seen yet, each node after all those that it leads
    to."""
    if root in seen:
        return
    seen.add(root)
    open_nodes = [(root, iter(sorted(graph[root])))]
    while open_nodes:
        node, others = open_nodes[-1]
        other = next((other for other in others if other not in seen), None)
        if other is None:
            finished.append(node)
            open_nodes.pop()
        else:
            seen.add(other)
            open_nodes.append((other, iter(sorted(graph[other]))))


def test_the_search_finds_every_cycle():
    graph = {
        "a": {"b"},
        "b": {"c"},
        "c": {"a", "d"},
        "d": {"e"},
        "e": set(),
        "f": {"g", "a"},
        "g": {"f", "e"},
    }
    assert sorted(map(sorted, cycles(graph))) == [["a", "b", "c"], ["f", "g"]]
    assert not list(cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}))


def test_imports_in_functions_and_for_types_count():
    modules = {"p", "p.a", "p.b", "p.c", "p.d"}
    source = (
        "import p.a\nif TYPE_CHECKING:\n    from p.b import X\n\n"
        "def f():\n    from p import c, y\n    import os"
    )
    assert imported(ast.parse(source), modules) == {"p.a", "p.b", "p", "p.c"}


def test_no_files_import_each_other():
    graph = import_graph()
    assert len(graph) > 100
    found = [
        f"{module} imports {other}"
        for component in cycles(graph)
        for module in sorted(component)
        for other in sorted(graph[module] & component)
    ]
    assert not found
