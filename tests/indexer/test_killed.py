"""`index add` killed at any moment and run again leaves what an uninterrupted run leaves."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.home import Home
from indexer.index import Index
from indexer.ingest.repair import verify
from indexer.servers import Servers
from tests.indexer.cases import cohort
from tests.indexer.contents import contents
from tests.indexer.qdrant import has_real_qdrant, index_servers, real_qdrant, servers_of
from tests.waiting import DEADLINE_SECONDS

STUDIES = 24
ROOT = Path(__file__).resolve().parents[2]
# After decode, after vectors, before and after the flush, before and after the ledger's commit.
STAGES = ("decoded", "encoded", "vectors", "flushed", "committing", "committed")

Run = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Site:
    """Where an index is. `environment`: of commands that use it; `servers`: that it names."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def servers(self) -> Servers:
        return servers_of(self.environment)

    def remove(self) -> None:
        """Make room: in memory a home takes 600 MB."""
        shutil.rmtree(self.home)


Make = Callable[[str], Site]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Kill runs on the embedded stores, and where a Qdrant server is named, on both servers."""
    if "site" in metafunc.fixturenames:
        kinds = ["embedded"] + ["servers"] * has_real_qdrant(metafunc.config)
        metafunc.parametrize("site", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, memory: Path) -> Iterator[Make]:
    """Makes a site for an index: a folder, or a folder with a database and a namespace on the servers."""
    with ExitStack() as opened:

        def make(name: str) -> Site:
            home = memory / f"{request.param}-{name}"
            qdrant = real_qdrant(request.config)
            if request.param == "embedded" or qdrant is None:
                return Site(home)
            postgres = request.getfixturevalue("postgres")
            return Site(home, opened.enter_context(index_servers(qdrant, postgres)))

        yield make


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Iterator[Run]:
    """Runs `index add` in a process of its own and says how it ended."""
    folder = tmp_path_factory.mktemp("killed")
    source = cohort(folder / "cases", STUDIES)
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.indexer.killing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert driver.stdin is not None
    assert driver.stdout is not None

    def run(site: Site, **kill: Any) -> dict[str, Any]:
        where = {"home": str(site.home), "environment": site.environment}
        job = {**where, "source": source, "encoder": str(encoder_folder), **kill}
        print(json.dumps(job), file=driver.stdin, flush=True)
        answer: dict[str, Any] = json.loads(driver.stdout.readline())  # type: ignore[union-attr]
        return answer

    yield run
    driver.stdin.close()
    driver.wait(DEADLINE_SECONDS)
    driver.stdout.close()


@pytest.fixture(scope="module")
def whole(runs: Run, site: Make) -> tuple[Path, dict[str, Any]]:
    """The home of an uninterrupted run, and what it left; `moments`: how many it had."""
    made = site("whole")
    ended = runs(made)
    assert ended["signal"] == 0
    with Index.open(made.home, servers=made.servers) as index:
        left = contents(index) | {"moments": ended["moments"]}
    assert len(left["ledger"]) == len(left["points"]) > STUDIES
    return made.home, left


def with_key_of(whole_home: Path, site: Site) -> Site:
    """Give an empty home the key of the whole one, so that ids can be compared."""
    Home.open(site.home)
    shutil.copy(whole_home / ".key", site.home / ".key")
    return site


def assert_recovers(runs: Run, site: Site, whole: dict[str, Any]) -> None:
    assert runs(site)["signal"] == 0
    with Index.open(site.home, servers=site.servers) as index:
        assert verify(index).faults == []
        left = contents(index)
    assert left["ledger"] == whole["ledger"]
    assert left["points"].keys() == whole["points"].keys()
    for point, point_left in left["points"].items():
        assert dict(point_left.payload) == dict(whole["points"][point].payload)
        np.testing.assert_allclose(point_left.vector, whole["points"][point].vector, atol=1e-5)
        assert point_left.terms == whole["points"][point].terms
    site.remove()


@pytest.mark.parametrize("stage", STAGES)
def test_killed_in_a_stage_and_run_again_it_ends_as_if_nothing_had_been(
    runs: Run, whole: tuple[Path, dict[str, Any]], site: Make, stage: str
) -> None:
    killed = with_key_of(whole[0], site(stage))
    assert runs(killed, stage=stage, step=3)["signal"] == 9
    with Index.open(killed.home, servers=killed.servers) as index:
        left = contents(index)
    if stage in ("vectors", "flushed", "committing"):
        assert left["points"].keys() > left["ledger"].keys(), "no vector was left without its ledger row"
    assert len(left["ledger"]) < len(whole[1]["ledger"])
    assert_recovers(runs, killed, whole[1])


@pytest.mark.parametrize("number", range(20))
def test_killed_at_a_random_moment_and_run_again_it_ends_as_if_nothing_had_been(
    runs: Run, whole: tuple[Path, dict[str, Any]], site: Make, number: int
) -> None:
    rng = random.Random(number)
    moments = max(1, round(rng.uniform(0.05, 0.95) * whole[1]["moments"]))
    ended = 0
    while not ended:  # a run that was over before the kill arrived is killed earlier
        killed = with_key_of(whole[0], site(f"random{number}-{moments}"))
        ended = runs(killed, moments=moments, delay=rng.uniform(0, 0.03))["signal"]
        moments -= 1
        if not ended:
            killed.remove()
    assert ended == 9
    assert_recovers(runs, killed, whole[1])


def test_killed_again_and_again_it_still_ends(
    runs: Run, whole: tuple[Path, dict[str, Any]], site: Make
) -> None:
    killed = with_key_of(whole[0], site("often"))
    for step, stage in enumerate(("committed", "vectors", "committing"), start=1):
        assert runs(killed, stage=stage, step=step)["signal"] == 9
    assert_recovers(runs, killed, whole[1])
