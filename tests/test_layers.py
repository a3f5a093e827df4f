"""The layers and packages of docs/explanation/architecture.md, held by tools."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("corpus", "trainer", "indexer", "retrieval", "similarity")


def test_import_contracts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def _modules() -> dict[str, Path]:
    found = {}
    for layer in LAYERS:
        for file in (ROOT / layer).rglob("*.py"):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = file
    return found


def _imports(tree: ast.AST, modules: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that a module imports, in functions and for type checkers, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if inner in modules else node.module
                if name in modules:
                    yield name


def import_graph() -> dict[str, set[str]]:
    modules = _modules()
    return {
        name: set(_imports(ast.parse(file.read_text("utf-8")), modules)) - {name}
        for name, file in modules.items()
    }


def test_no_import_is_part_of_a_cycle() -> None:
    """Late imports and those for type checkers included: what hides in a function is a cycle all the same."""
    left = import_graph()
    while leaves := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in leaves:
            del left[name]
    # What is left leads into a cycle; what nothing left imports is not itself part of one.
    while tops := [name for name in left if not any(name in imported for imported in left.values())]:
        for name in tops:
            del left[name]
    assert sorted(left) == []
