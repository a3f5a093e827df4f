"""From what stands on a command line (`openi:/data/openi`) to the source it names."""

import re
from pathlib import Path
from typing import Final

from corpus.dicom.file import is_dicom
from corpus.errors import CorpusError, UsageError
from corpus.files import UnreadableFile, quoted, read_bytes, walk
from corpus.records import Source
from corpus.sources import chexpert, covid_chestxray, mimic_cxr, nih_chestxray14, openi
from corpus.sources.common import ADMITTED
from corpus.tables.options import DEFAULT, TableOptions
from corpus.tables.reader import nearest

KINDS: Final = (
    "covid-chestxray", "nih-chestxray14", "openi", "chexpert", "mimic-cxr", "dicom", "manifest", "phantom",
)  # fmt: skip
"""The sources that are read, as they are named before the colon."""

_FILES_LOOKED_AT = 20
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")


def open_source(
    spec: str,
    *,
    reports: Path | None = None,
    admit: frozenset[str] = frozenset(),
    tables: TableOptions = DEFAULT,
) -> Source:
    """Open a source by its name on the command line.

    Args:
        spec: `KIND:PATH`, or `phantom:COUNT` or `phantom:COUNT@SEED`.
        reports: a table of reports to join to the films of a `dicom` source.
        admit: modalities to let in besides those of radiographs (`ADMITTED`).
        tables: how its tables and report files are read, and who is told of it. Dates are a manifest's: the
            published sets have their own way of writing them.

    Raises:
        UsageError: the text names no kind, an unknown one, or a number that is none.
        CorpusError: the place is not there, or is laid out like something else.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or not rest:
        looks = _recognise(Path(spec)) if not colon else None
        meant = f" (did you mean {looks}:{spec}?)" if looks else ""
        raise UsageError(f"{spec!r} is no source: write KIND:PATH, KIND one of {', '.join(KINDS)}{meant}")
    if kind not in KINDS:
        raise UsageError(f"unknown source {kind!r}{nearest(kind, KINDS)}: known are {', '.join(KINDS)}")
    if reports is not None and kind != "dicom":
        raise UsageError(f"--reports joins reports to a dicom source; {kind} brings its own")
    if reports is not None and not reports.exists():
        raise CorpusError(f"the table {quoted(reports)} is not there: check the path after --reports")
    if kind == "phantom":
        return _open_phantom(rest)
    admitted = ADMITTED | {modality.upper() for modality in admit}
    place = Path(rest).expanduser().absolute()
    if kind == "manifest":
        return _open_manifest(place, admitted, tables)
    _require_layout(kind, place)
    if kind == "dicom":
        from corpus.sources.dicom import DicomSource

        return DicomSource(place, admitted, reports, tables)
    if kind == "covid-chestxray":
        covid = covid_chestxray.CovidChestXraySource(place, admitted, tables)
        covid.read()
        return covid
    if kind == "nih-chestxray14":
        nih = nih_chestxray14.NihChestXray14Source(place, tables)
        nih.read()
        return nih
    if kind == "chexpert":
        return chexpert.open_root(place, tables)
    if kind == "mimic-cxr":
        mimic = mimic_cxr.MimicCxrSource(place, tables)
        mimic.read()
        return mimic
    return openi.OpenISource(place, tables)


def _open_phantom(rest: str) -> Source:
    match = re.fullmatch(r"(\d{1,9})(?:@(\d{1,9}))?", rest)
    if match is None:
        raise UsageError(f"'phantom:{rest}' is no phantom: write phantom:COUNT or phantom:COUNT@SEED")
    from corpus.sources.phantom import PhantomSource  # late: the phantom is not needed to read files

    return PhantomSource(int(match[1]), int(match[2] or 0))


def _open_manifest(place: Path, admitted: frozenset[str], tables: TableOptions) -> Source:
    from corpus.sources.manifest import ManifestSource

    if place.is_dir():
        looks = _recognise(place)
        meant = f": it looks like {looks}:{place.name}" if looks else ""
        raise CorpusError(f"manifest wants a table, and {place.name!r} is a folder{meant}")
    source = ManifestSource(place, admitted, tables)
    source.read()
    return source


def _require_layout(kind: str, folder: Path) -> None:
    """Check that a folder is laid out like the set it is said to be."""
    if not folder.exists():
        raise CorpusError(f"the folder {folder.name!r} is not there: check the path after {kind}:")
    if not folder.is_dir():
        raise CorpusError(f"{kind} wants a folder, and {folder.name!r} is a file")
    try:
        looks = _recognise(folder)
    except PermissionError as error:
        raise CorpusError(f"the folder {folder.name!r} may not be read by this user") from error
    if kind == looks or (kind == "dicom" and looks is None):
        return
    needs = {
        "covid-chestxray": covid_chestxray.TABLE,
        "nih-chestxray14": nih_chestxray14.TABLES,
        "openi": openi.REPORTS,
        "chexpert": f"{' or '.join(chexpert.TABLES)} with its columns",
        "mimic-cxr": f"{mimic_cxr.METADATA} or reports at files/p10/p10000032/s50414267.txt",
        "dicom": "DICOM files",
    }[kind]
    seen = f": it looks like {looks}" if looks else ""
    raise CorpusError(f"{folder.name!r} is not {kind}, which has {needs}{seen}")


def _recognise(place: Path) -> str | None:
    """Tell which set a place looks like, from its tables and then from its first files."""
    if place.is_file():
        return "manifest" if place.suffix.lower() in _TABLES else None
    if not place.is_dir():
        return None
    if (place / openi.REPORTS).exists():
        return openi.NAME
    if any(place.glob(nih_chestxray14.TABLES)):
        return nih_chestxray14.NAME
    if (place / covid_chestxray.TABLE).exists():
        return covid_chestxray.NAME
    if chexpert.find_roots(place):
        return chexpert.NAME
    if mimic_cxr.looks_like(place):
        return mimic_cxr.NAME
    if (place / "masks.csv").exists():
        return "a folder of pictures with masks, which is for --masks"
    return "dicom" if any(_has_dicom(path) for path in _first_files(place)) else None


def _first_files(folder: Path) -> list[Path]:
    return [path for path, _ in zip(walk(folder), range(_FILES_LOOKED_AT), strict=False)]


def _has_dicom(path: Path) -> bool:
    try:
        return is_dicom(read_bytes(path, head=132))
    except UnreadableFile:
        return False
