"""Versions of a report: the final one replaces the preliminary one, and an addendum overrides both.

A preliminary reading ("WET READ", "PRELIMINARY REPORT") becomes a section `preliminary`, which is neither
labelled, embedded nor cited, unless the report has no other reading. An addendum becomes a section `addendum`
behind all others; the last one wins. A bare "DIAGNOSIS" is the impression where it closes a description
without an impression or is the whole report, and else part of the order. Where a preliminary report and the
final one have no heading between them, a repeated heading opens the final one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from corpus.redaction import redacted

Opening = Literal["preliminary", "final", "addendum"]

_DESCRIPTIVE = ("findings", "impression", "body")
"""Names of the sections that describe the image in the first version of a report."""

_NUMBER = re.compile(r"[ (]*(?:#|no\.? ?|number )?(\d{1,2})(?![\d/.:-])", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")


@redacted
@dataclass(frozen=True, slots=True)
class Part:
    """A heading and its text.

    `name`: of the section.
    `text`: below the heading.
    `opening`: the version that the heading begins.
    `suffix`: the text between heading and colon.
    """

    name: str
    text: str
    opening: Opening | None = None
    suffix: str = ""


def resolve_versions(parts: Sequence[Part]) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each section, in order, addenda last."""
    resolved = _restore_names(_assign(_resolve_diagnoses(parts)))
    yield from ((part.name, part.text) for part in resolved if part.name != "addendum")
    addenda = _number_addenda(resolved)
    yield from (("addendum", part.text) for _, part in sorted(addenda, key=lambda entry: entry[0]))


def _number_addenda(parts: Sequence[Part]) -> Iterator[tuple[int, Part]]:
    """Yield each addendum with its number; all parts below one heading share it."""
    number = 0
    for part in parts:
        if part.name != "addendum":
            continue
        if part.opening == "addendum":
            written = _NUMBER.match(part.suffix)
            number = int(written[1]) if written else number
        yield number, part


def _resolve_diagnoses(parts: Sequence[Part]) -> list[Part]:
    """Rename each bare "DIAGNOSIS" to `impression` or `history`."""
    names = [part.name for part in parts]
    last_findings = max((n for n, name in enumerate(names) if name == "findings"), default=-1)
    concluded = "impression" in names
    alone = not any(part.name in _DESCRIPTIVE and _has_letters(part) for part in parts)
    resolved: list[Part] = []
    described = False
    for number, part in enumerate(parts):
        if part.name == "diagnosis":
            closes = described and not concluded and number > last_findings
            part = replace(part, name="impression" if closes or alone else "history")
        described |= part.name in ("findings", "body") and _has_letters(part)
        resolved.append(part)
    return resolved


def _assign(parts: Sequence[Part]) -> Iterator[tuple[Part, str]]:
    """Yield each part under the name of its version, and its original name."""
    version: Opening = "final"
    described = False
    repeated = _repeated_after_preliminary(parts)
    parts = [replace(part, opening="final") if n == repeated else part for n, part in enumerate(parts)]
    last_final = max((n for n, part in enumerate(parts) if part.opening == "final"), default=-1)
    for number, part in enumerate(parts):
        if part.opening is not None:
            version = part.opening
        elif version == "addendum" and not described:
            version = "final"  # the addendum stands before the report
        elif version == "preliminary" and number > last_final:
            version = "final"  # no heading opens the final version: the next one of any kind does
        describes = part.name in _DESCRIPTIVE
        described |= describes and version == "final" and _has_letters(part)
        name = version if describes and version != "final" else part.name
        yield replace(part, name=name), part.name


def _repeated_after_preliminary(parts: Sequence[Part]) -> int | None:
    """Return the index of the part that repeats a section of a preliminary report without own text."""
    names: set[str] | None = None
    for number, part in enumerate(parts):
        if part.opening is not None:
            names = set() if part.opening == "preliminary" and not _has_letters(part) else None
        elif names is not None and part.name in ("findings", "impression"):
            if part.name in names:
                return number
            names.add(part.name)
    return None


def _restore_names(assigned: Iterator[tuple[Part, str]]) -> list[Part]:
    """Restore the section names of a preliminary version where the report has no other."""
    parts = list(assigned)
    final = any(part.name in _DESCRIPTIVE and _has_letters(part) for part, _ in parts)
    return [part if final or part.name != "preliminary" else replace(part, name=name) for part, name in parts]


def _has_letters(part: Part) -> bool:
    return _LETTER.search(part.text) is not None
