"""The compose file is what a department starts from: pinned, checked, closed, keyed."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_the_two_servers_are_there(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "qdrant"}


@pytest.mark.parametrize("name", ["postgres", "qdrant"])
def test_a_server_is_pinned_checked_and_reachable_from_this_machine_only(
    services: dict[str, Any], name: str
) -> None:
    service = services[name]
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?", service["image"])
    assert service["healthcheck"]["test"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["volumes"]


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
