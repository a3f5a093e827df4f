"""Which parts of a report are its reading: the final one before the preliminary, an addendum before both.

A preliminary reading ("WET READ", "PRELIMINARY REPORT") is kept as a section `preliminary`, which nothing
labels, embeds or cites, unless the report has no other reading. An addendum becomes a section `addendum`
behind all others; the last one has the last word. A bare "DIAGNOSIS" is the impression where it closes a
description that has no impression or is all that the report says, and else what the order says. Where a
preliminary report and the final one have no heading between them, a repeated one opens the final reading.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from corpus.redaction import redacted

Opening = Literal["preliminary", "final", "addendum"]

_WRITTEN = ("findings", "impression", "body")
"""Names of the sections that say what the image shows in a report as it was first written."""

_NUMBER = re.compile(r"[ (]*(?:#|no\.? ?|number )?(\d{1,2})(?![\d/.:-])", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")


@redacted
@dataclass(frozen=True, slots=True)
class Part:
    """A heading's name and its text.

    `opening`: the reading that the heading begins. `suffix`: what stands between heading and colon.
    """

    name: str
    text: str
    opening: Opening | None = None
    suffix: str = ""


def settle_readings(parts: Sequence[Part]) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each section, in order, addenda last."""
    settled = _restore(_assign(_settle_diagnoses(parts)))
    yield from ((part.name, part.text) for part in settled if part.name != "addendum")
    addenda = _number_addenda(settled)
    yield from (("addendum", part.text) for _, part in sorted(addenda, key=lambda entry: entry[0]))


def _number_addenda(parts: Sequence[Part]) -> Iterator[tuple[int, Part]]:
    """Yield each addendum with its number; what stands below one heading shares it."""
    number = 0
    for part in parts:
        if part.name != "addendum":
            continue
        if part.opening == "addendum":
            told = _NUMBER.match(part.suffix)
            number = int(told[1]) if told else number
        yield number, part


def _settle_diagnoses(parts: Sequence[Part]) -> list[Part]:
    """Give each bare "DIAGNOSIS" its name: `impression` or `history`."""
    names = [part.name for part in parts]
    last_findings = max((n for n, name in enumerate(names) if name == "findings"), default=-1)
    concluded = "impression" in names
    alone = not any(part.name in _WRITTEN and _says_something(part) for part in parts)
    settled: list[Part] = []
    described = False
    for number, part in enumerate(parts):
        if part.name == "diagnosis":
            closes = described and not concluded and number > last_findings
            part = replace(part, name="impression" if closes or alone else "history")
        described |= part.name in ("findings", "body") and _says_something(part)
        settled.append(part)
    return settled


def _assign(parts: Sequence[Part]) -> Iterator[tuple[Part, str]]:
    """Yield each part under the name of its reading, and the name it had."""
    reading: Opening = "final"
    described = False
    repeated = _repeated_after_preliminary(parts)
    parts = [replace(part, opening="final") if n == repeated else part for n, part in enumerate(parts)]
    last_final = max((n for n, part in enumerate(parts) if part.opening == "final"), default=-1)
    for number, part in enumerate(parts):
        if part.opening is not None:
            reading = part.opening
        elif reading == "addendum" and not described:
            reading = "final"  # the addendum stands before the report
        elif reading == "preliminary" and number > last_final:
            reading = "final"  # no heading opens the final reading: the next one of any kind does
        describes = part.name in _WRITTEN
        described |= describes and reading == "final" and _says_something(part)
        name = reading if describes and reading != "final" else part.name
        yield replace(part, name=name), part.name


def _repeated_after_preliminary(parts: Sequence[Part]) -> int | None:
    """Which part repeats a section of the preliminary report, whose heading has no text of its own."""
    names: set[str] | None = None
    for number, part in enumerate(parts):
        if part.opening is not None:
            names = set() if part.opening == "preliminary" and not _says_something(part) else None
        elif names is not None and part.name in ("findings", "impression"):
            if part.name in names:
                return number
            names.add(part.name)
    return None


def _restore(assigned: Iterator[tuple[Part, str]]) -> list[Part]:
    """Give a preliminary reading its own names back where the report has no other."""
    parts = list(assigned)
    final = any(part.name in _WRITTEN and _says_something(part) for part, _ in parts)
    return [part if final or part.name != "preliminary" else replace(part, name=name) for part, name in parts]


def _says_something(part: Part) -> bool:
    return _LETTER.search(part.text) is not None
