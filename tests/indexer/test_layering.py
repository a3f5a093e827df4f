"""SQL stays in the catalog: no other module knows the database."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("corpus", "trainer", "indexer", "retrieval", "similarity", "benchmarks", "examples")
MODULES = sorted(
    file
    for layer in LAYERS
    for file in (ROOT / layer).rglob("*.py")
    if (ROOT / "indexer" / "catalog") not in file.parents
)


def imported(file: Path) -> Iterator[str]:
    """Yield every module that a file imports, late imports included."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_the_catalog_imports_the_database(file: Path) -> None:
    packages = {name.partition(".")[0] for name in imported(file)}
    assert not packages & {"sqlalchemy", "alembic", "psycopg", "sqlite3"}
