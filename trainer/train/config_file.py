"""The configuration file of a training run: read from TOML, written back resolved.

An unknown key is refused, and the nearest known one named. `[text_pretraining]` is an alias of the section
`[reading]`, under which the resolved configuration is written.
"""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from corpus.errors import UsageError
from trainer.train.config import TrainConfig

_KEYS = {"text_pretraining": "reading"}  # field of `TrainConfig` → its key in files; both are read


def read_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a configuration and apply overrides.

    Args:
        path: a TOML file; None for the defaults.
        overrides: dotted setting → value, such as `{"loss.name": "infonce"}`; None values are ignored.

    Raises:
        UsageError: the file cannot be read, a key is unknown (the nearest is named) or a value does not fit.
    """
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"the configuration {path} cannot be read: {error}") from error
    content = _with_keys(content)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            first, *rest = dotted.split(".")
            *sections, key = _KEYS.get(first, first), *rest
            table = content
            for section in sections:
                table = table.setdefault(section, {})
            table[key] = value
    config: TrainConfig = _read_section(TrainConfig, content, "")
    return config


def _with_keys(table: Mapping[str, Any]) -> dict[str, Any]:
    """A top-level table with aliases replaced by the keys of files.

    Raises:
        UsageError: it has a section under both names.
    """
    for alias, key in _KEYS.items():
        if alias in table and key in table:
            raise UsageError(f"[{alias}] and [{key}] are one section: write one of them")
    return {_KEYS.get(key, key): value for key, value in table.items()}


def config_table(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain JSON values, under the keys of files."""
    return _with_keys(json.loads(json.dumps(asdict(config))))


def write_toml(config: TrainConfig) -> str:
    """The resolved configuration as TOML that `read_config` reads back to an equal one."""
    table = config_table(config)
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for section, content in table.items():
        if isinstance(content, dict):
            lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in content.items())]
    return "\n".join(lines) + "\n"


def differing(left: TrainConfig, right: TrainConfig) -> list[str]:
    """The dotted names of the settings in which two configurations differ."""
    one, other = _flat(config_table(left)), _flat(config_table(right))
    return [name for name in one if one[name] != other[name]]


def without_folders(config: TrainConfig) -> TrainConfig:
    """The configuration without folders of this machine: sources and weights by name only."""
    return replace(
        config,
        corpus=tuple(public_name(spec) for spec in config.corpus),
        arch=public_name(config.arch),
        image_weights=public_name(config.image_weights),
        text_weights=public_name(config.text_weights),
    )


def public_name(spec: str) -> str:
    """`openi:/home/a/openi` → `openi:openi`, `/models/a.safetensors` → `a.safetensors`."""
    if spec.startswith(("package:", "timm:", "hf:", "phantom:")):
        return spec
    kind, colon, path = spec.rpartition(":")
    return f"{kind}{colon}{Path(path).name}"


def _read_section(kind: type[Any], content: Mapping[str, Any], prefix: str) -> Any:
    types = get_type_hints(kind)
    names = {_KEYS.get(f.name, f.name): f.name for f in fields(kind)}
    known = names.keys()
    values = {}
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise UsageError(f"unknown setting {prefix}{key}; {hint}")
        values[names[key]] = _fit(types[names[key]], value, f"{prefix}{key}")
    return kind(**values)


def _fit(kind: Any, value: Any, name: str) -> Any:
    """A value checked against its type; an integer is accepted for a float."""
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise UsageError(f"{name} is a section: write [{name}]")
        return _read_section(kind, value, f"{name}.")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(f"{name} must be one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{name} must be a list of texts")
        return tuple(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UsageError(f"{name} must be a number, not {value}")
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{name} must be of kind {kind.__name__}, not {value!r}")
    return value


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # a JSON scalar or list of texts is TOML as well
