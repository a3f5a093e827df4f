"""Hooks of the site (`mkdocs.yml`): the reference tables that come from the code and its contracts."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CONTRACTS = Path(__file__).parent / "contracts"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page with each marker, such as `<!-- settings -->`, replaced by its table."""
    for marker, table in TABLES.items():
        if f"<!-- {marker} -->" in markdown:
            markdown = markdown.replace(f"<!-- {marker} -->", "\n".join(table()))
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Return a page without the placeholder that click has for an option without a default."""
    return html.replace("<code>Sentinel.UNSET</code>", "")


def settings_table() -> Iterator[str]:
    """Yield the table of `SIMILARITY_…`: variable, default, description."""
    from corpus.settings import Settings

    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f"`{_plain(field.default)}`"
        yield f"| `SIMILARITY_{name.upper()}` | {default} | {_cell(field.description)} |"


def http_table() -> Iterator[str]:
    """Yield the routes of `openapi.json` by tag, then the fields of each body."""
    document = json.loads((CONTRACTS / "openapi.json").read_text("utf-8"))
    routes: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["other"])[0]
            body = _schema_names(operation.get("requestBody"))
            answer = _schema_names(operation["responses"].get("200") or operation["responses"].get("202"))
            routes.setdefault(tag, []).append(
                f"| `{method.upper()} {path}` | {_cell(operation.get('description'))} | {body} | {answer} |"
            )
    for tag, rows in sorted(routes.items()):
        yield f"\n## {tag.capitalize()}\n"
        yield "| route | what it does | body | answer |"
        yield "|---|---|---|---|"
        yield from rows
    yield "\n## Bodies and answers"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from _schema(name, schema, level=3)


def json_table() -> Iterator[str]:
    """Yield the fields of each schema in `docs/contracts`."""
    for file in sorted(CONTRACTS.glob("*.schema.json")):
        schema = json.loads(file.read_text("utf-8"))
        name = file.name.removesuffix(".schema.json")
        yield from _schema(name, schema, level=2)
        yield f"\nSchema: [`{file.name}`](../contracts/{file.name})"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "settings": settings_table,
    "http": http_table,
    "json": json_table,
}


def _schema(name: str, schema: dict[str, Any], *, level: int) -> Iterator[str]:
    yield f"\n{'#' * level} {name}\n"
    if description := schema.get("description"):
        yield f"{_cell(description)}\n"
    if values := schema.get("enum"):
        yield "One of " + ", ".join(f"`{value}`" for value in values) + "."
    fields = schema.get("properties", {})
    if not fields:
        return
    required = set(schema.get("required", ()))
    yield "| key | type | meaning |"
    yield "|---|---|---|"
    for key, field in fields.items():
        optional = "" if key in required else " (optional)"
        yield f"| `{key}`{optional} | {_type(field)} | {_cell(field.get('description'))} |"


def _type(field: dict[str, Any]) -> str:
    """Return the type of a field in words: `array of string`, `integer or null`."""
    if reference := field.get("$ref"):
        return str(reference).rpartition("/")[2]
    for union in ("anyOf", "oneOf", "allOf"):
        if union in field:
            return " or ".join(dict.fromkeys(_type(option) for option in field[union]))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kind = field.get("type", "any")
    kinds = kind if isinstance(kind, list) else [kind]
    return " or ".join(
        f"array of {_type(field['items'])}" if one == "array" and "items" in field else str(one)
        for one in kinds
    )


def _schema_names(part: dict[str, Any] | None) -> str:
    names = re.findall(r"#/components/schemas/(\w+)", json.dumps(part or {}))
    return ", ".join(f"[{name}](#{name.lower()})" for name in dict.fromkeys(names))


def _cell(text: str | None) -> str:
    """Return a text as one cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


def _plain(value: object) -> str:
    """Return a default as one types it in the environment."""
    return str(value).lower() if isinstance(value, bool) else str(value)
