"""The compose file is what a department starts from: pinned, checked, closed, keyed."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from qdrant_client.common.version_check import is_compatible

from corpus.settings import Settings
from indexer.vectors.client import supported
from retrieval.doctor import OLDEST_POSTGRES

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_the_servers_the_migration_and_the_service_are_there(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "qdrant", "migrate", "service"}


def test_the_service_starts_on_migrated_tables_with_no_more_rights_than_it_needs(
    services: dict[str, Any],
) -> None:
    service, migrate = services["service"], services["migrate"]
    assert service["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert migrate["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert service["image"] == migrate["image"]
    assert re.fullmatch(r"similarity:\d+\.\d+\.\d+", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["healthcheck"]["test"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    for name, value in service["environment"].items():
        assert name.removeprefix("SIMILARITY_").lower() in Settings.model_fields
        assert "KEY" not in name or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value)


def test_the_image_is_pinned_and_runs_as_an_unprivileged_user() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base) for base in bases)
    assert "USER similarity" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    copied = {line.split()[1] for line in lines if line.startswith("COPY") and "--from" not in line}
    packages = {name.partition(".")[0] for name in _packages()}
    assert packages <= copied
    assert all((ROOT / name).exists() for name in copied)


def _packages() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    names: list[str] = project["tool"]["setuptools"]["packages"]
    return names


@pytest.mark.parametrize("name", ["postgres", "qdrant"])
def test_a_server_is_pinned_checked_and_reachable_from_this_machine_only(
    services: dict[str, Any], name: str
) -> None:
    service = services[name]
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?", service["image"])
    assert service["healthcheck"]["test"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["volumes"]


def test_the_servers_are_of_versions_that_the_program_works_with(services: dict[str, Any]) -> None:
    qdrant = services["qdrant"]["image"].partition(":v")[2]
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = re.search(r"^qdrant-client==(\S+)", lock, re.MULTILINE)
    assert locked is not None
    assert supported(qdrant)
    assert is_compatible(locked[1], qdrant), "the client that the image installs"
    assert int(services["postgres"]["image"].partition(":")[2].partition(".")[0]) >= OLDEST_POSTGRES


@pytest.mark.parametrize(
    ("name", "variable"), [("postgres", "POSTGRES_PASSWORD"), ("qdrant", "QDRANT__SERVICE__API_KEY")]
)
def test_a_server_does_not_start_without_its_key(services: dict[str, Any], name: str, variable: str) -> None:
    value = services[name]["environment"][variable]
    assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), "no default key, and a word on which to set"


def test_the_lock_names_no_host_and_pins_every_distribution() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert not [line for line in pins if "://" in line or line.startswith("-")]
    assert all(re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", line) for line in pins)
