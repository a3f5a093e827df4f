"""The `similarity` command as a stranger runs it: another process, a home of its own, nothing imported."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SIMILARITY = Path(sys.executable).parent / "similarity"


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


def runner(home: Path, folder: Path) -> Run:
    """Run commands on a home, in a folder; by default they must succeed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIMILARITY_")}
    environment = {**clean, "SIMILARITY_HOME": str(home), "OMP_NUM_THREADS": "2", "COLUMNS": "120"}

    def run(*words: str, exits: int = 0, stdin: str | None = None) -> Ran:
        done = subprocess.run(
            [SIMILARITY, *words],
            env=environment,
            cwd=folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == exits, f"{words} left {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a stranger stands."""
    return tmp_path_factory.mktemp("stranger")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Run commands on one home, shared by the tests of a module."""
    return runner(folder / "home", folder)
