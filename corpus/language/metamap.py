"""MetaMap's reading of reports, in place of the rule labeler's.

MetaMap (Aronson, AMIA 2001) and MetaMapLite find UMLS concepts in text. They are licensed and run elsewhere;
here their output is read: fielded MMI lines (`id|MMI|score|name|CUI|[types]|[triggers]|location|place|tree`)
or MetaMapLite's JSON (a list of entities with `docid` and `evlist`). A concept counts as a finding by its
identifier (`corpus.findings.VOCABULARY`) and where one of its semantic types is among `SEMANTIC_TYPES`.

In MMI every trigger ends in a flag of negation; a concept whose triggers are all negated is absent, else
present. MetaMapLite's JSON tells no negation: whether a finding that it names is denied or doubted is then
read from the report by the labeler's rules. MetaMap knows no doubt, and reads all that it is given: give it
what a report says of the film, not its indication.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from corpus.errors import CorpusError
from corpus.files import UnreadableFile, quoted, walk
from corpus.findings import NO_FINDING, VOCABULARY, Status, Statuses
from corpus.language.labeler import conclude, label_report
from corpus.records import Study
from corpus.tables.reader import read_text

SEMANTIC_TYPES = frozenset({"dsyn", "fndg", "sosy", "patf", "anab", "acab", "cgab", "neop", "inpo", "medd"})
"""Diseases, findings, symptoms, abnormalities, neoplasms, injuries and devices, by MetaMap's short names."""

_SUFFIXES = (".mmi", ".json", ".txt", ".out")
# What MetaMap calls a document that was given without a name of its own.
_NAMELESS = re.compile(r"(?:0+|USER)(?:\.tx)?")
_LINE = re.compile(
    r"(?P<document>[^|]*)\|MMI\|[^|]*\|[^|]*\|(?P<cui>C\d{7})\|\[(?P<types>[a-z, ]*)\]\|(?P<triggers>.*)"
)
_OTHER_LINE = re.compile(r"[^|]*\|(?:AA|UA)\|")  # acronyms, which name no concept
# Triggers end in their flag; MetaMap puts brackets around them, MetaMapLite does not.
_FLAG = re.compile(r'-([01])(?=,"|\]?\||\]?$)')


class _Concept(NamedTuple):
    document: str
    cui: str
    types: frozenset[str]
    negated: bool | None  # None: not told


@dataclass(frozen=True, slots=True)
class Document:
    """What MetaMap found in one text. `told`: finding → present or absent, without parents.

    `unsigned`: the findings in it of which negation is not told (they stand as present). `normal`: something
    was called normal.
    """

    told: Statuses
    unsigned: frozenset[str] = frozenset()
    normal: bool = False


@dataclass(frozen=True, slots=True)
class MetaMapReading:
    """What MetaMap read: document id → what it found there.

    `bad_lines`: what could not be read, each in a sentence with its file and line.
    """

    documents: Mapping[str, Document]
    bad_lines: tuple[str, ...] = ()

    def of(self, study: Study) -> Statuses:
        """The statuses of a study's report, spread along the tree; none where MetaMap found nothing in it.

        A document is the study's that is called like its report (`openi:1000#report`), like the study
        (`openi:1000`), or like the study without its source (`1000`).
        """
        names = (name for name in _names(study.study_id) if name in self.documents)
        document = next((self.documents[name] for name in names), None)
        if document is None:
            return MappingProxyType({})
        told = dict(document.told)
        if document.unsigned and study.report is not None:
            read = label_report(study.report)
            told |= {f: read[f] for f in document.unsigned if f in read}
        return conclude(told, normal=document.normal)

    def require_named(self, study_ids: Iterable[str]) -> None:
        """Check that the documents are those of these studies.

        Raises:
            CorpusError: none is. (That some studies have none is no error: MetaMap writes nothing of a
                report in which it finds no concept.)
        """
        if not any(name in self.documents for study_id in study_ids for name in _names(study_id)):
            shown = ", ".join(repr(name[:40]) for name in list(self.documents)[:3]) or "none"
            raise CorpusError(
                f"no document of MetaMap is called like a study of this source (its documents: {shown}): "
                "call each by its study, as in openi:1000"
            )


def read_metamap(place: Path, *, types: frozenset[str] = SEMANTIC_TYPES) -> MetaMapReading:
    """Read MetaMap's output.

    Args:
        place: a file of MMI lines or of MetaMapLite's JSON, with any number of documents; or a folder of such
            files (.mmi, .json, .txt, .out). A document without a name of its own is called like its file.
        types: semantic types that count.

    Raises:
        CorpusError: the file cannot be read, or the folder holds no such file.
    """
    files = [path for path in walk(place) if path.suffix in _SUFFIXES] if place.is_dir() else [place]
    if not files:
        raise CorpusError(f"the folder {quoted(place)} has no output of MetaMap: {', '.join(_SUFFIXES)}")
    bad: list[str] = []
    found: dict[str, list[_Concept]] = {}
    for path in files:
        try:
            text = read_text(path)
        except UnreadableFile as reason:
            if not place.is_dir():
                raise CorpusError(f"MetaMap's output {quoted(path)} {reason}") from reason
            bad.append(f"{quoted(path)} {reason}")
            continue
        read = _read_json if text.lstrip()[:1] in ("[", "{") else _read_lines
        for concept in read(path, text, bad):
            name = path.stem if _NAMELESS.fullmatch(concept.document) else concept.document
            found.setdefault(name, []).append(concept)
    return MetaMapReading(
        MappingProxyType({name: _document(concepts, types) for name, concepts in found.items()}), tuple(bad)
    )


def _read_lines(path: Path, text: str, bad: list[str]) -> Iterator[_Concept]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or _OTHER_LINE.match(line):
            continue
        match = _LINE.fullmatch(line.strip())
        flags = _FLAG.findall(match["triggers"]) if match else []
        if match is None or not flags:
            lacks = "is no line of fielded MMI output" if match is None else "has no flag of negation"
            bad.append(f"line {number} of {quoted(path)} {lacks}")
            continue
        types = frozenset(match["types"].replace(" ", "").split(","))
        yield _Concept(match["document"].strip(), match["cui"], types, "0" not in flags)


def _read_json(path: Path, text: str, bad: list[str]) -> Iterator[_Concept]:
    try:
        entities = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        bad.append(f"{quoted(path)} is no whole JSON ({type(error).__name__})")
        return
    for number, entity in enumerate(entities if isinstance(entities, list) else [entities], 1):
        try:
            document = str(entity.get("docid") or "0")
            for candidate in entity["evlist"]:
                told = candidate["conceptinfo"]
                types = frozenset(str(kind) for kind in told["semantictypes"])
                yield _Concept(document, str(told["cui"]), types, None)
        except (AttributeError, KeyError, TypeError):
            bad.append(f"entity {number} of {quoted(path)} is none of MetaMapLite's")


def _document(concepts: Iterable[_Concept], types: frozenset[str]) -> Document:
    told: dict[str, Status] = {}
    unsigned: set[str] = set()
    normal = False
    for concept in concepts:
        finding = VOCABULARY.find_concept(concept.cui) if concept.types & types else None
        if finding == NO_FINDING:
            normal |= concept.negated is False
        elif finding is not None:
            if concept.negated is None:
                unsigned.add(finding)
            if told.get(finding) is not Status.PRESENT:
                told[finding] = Status.ABSENT if concept.negated else Status.PRESENT
    return Document(MappingProxyType(told), frozenset(unsigned), normal)


def _names(study_id: str) -> tuple[str, str, str]:
    """What a document of this study can be called."""
    return (f"{study_id}#report", study_id, study_id.partition(":")[2])
