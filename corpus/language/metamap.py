"""MetaMap's labels of reports, in place of the rule-based labeler's.

MetaMap (Aronson, AMIA 2001) and MetaMapLite find UMLS concepts in text. They are licensed and run elsewhere;
here their output is read: fielded MMI lines (`id|MMI|score|name|CUI|[types]|[triggers]|location|place|tree`)
or MetaMapLite's JSON (a list of entities with `docid` and `evlist`). A concept counts as a finding by its
identifier (`corpus.findings.VOCABULARY`) and where one of its semantic types is among `SEMANTIC_TYPES`.

In MMI every trigger ends in a flag of negation; a concept is absent if all its triggers are negated, else
present. MetaMapLite's JSON has no negation: the labeler's rules then decide from the report whether a finding
is denied or uncertain. MetaMap has no uncertainty, and reads its whole input: give it the text that describes
the image, not the indication.
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
from corpus.records import ItemId, Study
from corpus.tables.reader import read_text

SEMANTIC_TYPES = frozenset({"dsyn", "fndg", "sosy", "patf", "anab", "acab", "cgab", "neop", "inpo", "medd"})
"""Diseases, findings, symptoms, abnormalities, neoplasms, injuries and devices, by MetaMap's short names."""

_SUFFIXES = (".mmi", ".json", ".txt", ".out")
# MetaMap's names of documents without a name.
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
    negated: bool | None  # None where the output has no negation


@dataclass(frozen=True, slots=True)
class Document:
    """The findings of one text.

    `statuses`: finding → present or absent, without parents.
    `unsigned`: findings without information on negation (their status is present).
    `normal`: something was called normal.
    """

    statuses: Statuses
    unsigned: frozenset[str] = frozenset()
    normal: bool = False


@dataclass(frozen=True, slots=True)
class MetaMapReading:
    """MetaMap's output.

    `documents`: document id → its findings.
    `bad_lines`: what could not be read, each in a sentence with its file and line.
    """

    documents: Mapping[str, Document]
    bad_lines: tuple[str, ...] = ()

    def of(self, study: Study) -> Statuses:
        """Return the statuses of a study's report, spread along the tree; empty without a document.

        The document of a study has the id of its report (`openi:1000#report`), of the study (`openi:1000`),
        or of the study without its source (`1000`).
        """
        names = (name for name in _document_names(study.study_id) if name in self.documents)
        document = next((self.documents[name] for name in names), None)
        if document is None:
            return MappingProxyType({})
        statuses = dict(document.statuses)
        if document.unsigned and study.report is not None:
            read = label_report(study.report)
            statuses |= {f: read[f] for f in document.unsigned if f in read}
        return conclude(statuses, normal=document.normal)

    def require_named(self, study_ids: Iterable[str]) -> None:
        """Check that the documents belong to these studies.

        Raises:
            CorpusError: none does. (Single studies may lack one: MetaMap writes nothing for a report without
                a concept.)
        """
        if not any(name in self.documents for study_id in study_ids for name in _document_names(study_id)):
            shown = ", ".join(repr(name[:40]) for name in list(self.documents)[:3]) or "none"
            raise CorpusError(
                f"no document of MetaMap is called like a study of this source (its documents: {shown}): "
                "call each by its study, as in openi:1000"
            )


def read_metamap(path: Path, *, types: frozenset[str] = SEMANTIC_TYPES) -> MetaMapReading:
    """Read MetaMap's output.

    Args:
        path: a file of MMI lines or of MetaMapLite's JSON, with any number of documents; or a folder of such
            files (.mmi, .json, .txt, .out). A document without a name is named by its file.
        types: semantic types that count.

    Raises:
        CorpusError: the file cannot be read, or the folder has no such file.
    """
    files = [file for file in walk(path) if file.suffix in _SUFFIXES] if path.is_dir() else [path]
    if not files:
        raise CorpusError(f"the folder {quoted(path)} has no output of MetaMap: {', '.join(_SUFFIXES)}")
    bad: list[str] = []
    found: dict[str, list[_Concept]] = {}
    for file in files:
        try:
            text = read_text(file)
        except UnreadableFile as reason:
            if not path.is_dir():
                raise CorpusError(f"MetaMap's output {quoted(file)} {reason}") from reason
            bad.append(f"{quoted(file)} {reason}")
            continue
        read = _read_json if text.lstrip()[:1] in ("[", "{") else _read_lines
        for concept in read(file, text, bad):
            name = file.stem if _NAMELESS.fullmatch(concept.document) else concept.document
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
                concept = candidate["conceptinfo"]
                types = frozenset(str(kind) for kind in concept["semantictypes"])
                yield _Concept(document, str(concept["cui"]), types, None)
        except (AttributeError, KeyError, TypeError):
            bad.append(f"entity {number} of {quoted(path)} is none of MetaMapLite's")


def _document(concepts: Iterable[_Concept], types: frozenset[str]) -> Document:
    statuses: dict[str, Status] = {}
    unsigned: set[str] = set()
    normal = False
    for concept in concepts:
        finding = VOCABULARY.find_concept(concept.cui) if concept.types & types else None
        if finding == NO_FINDING:
            normal |= concept.negated is False
        elif finding is not None:
            if concept.negated is None:
                unsigned.add(finding)
            if statuses.get(finding) is not Status.PRESENT:
                statuses[finding] = Status.ABSENT if concept.negated else Status.PRESENT
    return Document(MappingProxyType(statuses), frozenset(unsigned), normal)


def _document_names(study_id: str) -> tuple[str, str, str]:
    """Return the possible document names of a study."""
    return (ItemId.report(study_id).text, study_id, study_id.partition(":")[2])
