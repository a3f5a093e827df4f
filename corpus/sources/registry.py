"""The registry of sources: opens the source of a `KIND:PATH` such as `openi:/data/openi`."""

import re
from pathlib import Path
from typing import Final

from corpus.dicom.file import is_dicom
from corpus.errors import CorpusError, UsageError
from corpus.files import UnreadableFile, quoted, read_bytes, walk
from corpus.records import Source
from corpus.sources import chexpert, covid_chestxray, mimic_cxr, nih_chestxray14, openi
from corpus.sources.common import ADMITTED
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.reader import nearest

KINDS: Final = (
    "covid-chestxray", "nih-chestxray14", "openi", "chexpert", "mimic-cxr", "dicom", "manifest", "phantom",
)  # fmt: skip
"""The kinds of sources, as they stand before the colon."""

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
        reports: a table of reports to join to the images of a `dicom` source.
        admit: modalities to admit besides those of radiographs (`ADMITTED`).
        tables: how its tables and report files are read. Date formats apply to manifests: the published sets
            have fixed ones.

    Raises:
        UsageError: the kind is missing or unknown, or a number is malformed.
        CorpusError: the path does not exist, or has another layout.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or not rest:
        recognised = _recognise(Path(spec)) if not colon else None
        meant = f" (did you mean {recognised}:{spec}?)" if recognised else ""
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
    path = Path(rest).expanduser().absolute()
    if kind == "manifest":
        return _open_manifest(path, admitted, tables)
    _require_layout(kind, path)
    if kind == "dicom":
        from corpus.sources.dicom import DicomSource

        return DicomSource(path, admitted, reports, tables)
    if kind == "covid-chestxray":
        covid = covid_chestxray.CovidChestXraySource(path, admitted, tables)
        covid.read()
        return covid
    if kind == "nih-chestxray14":
        nih = nih_chestxray14.NihChestXray14Source(path, tables)
        nih.read()
        return nih
    if kind == "chexpert":
        return chexpert.open_root(path, tables)
    if kind == "mimic-cxr":
        mimic = mimic_cxr.MimicCxrSource(path, tables)
        mimic.read()
        return mimic
    return openi.OpenISource(path, tables)


def _open_phantom(rest: str) -> Source:
    match = re.fullmatch(r"(\d{1,9})(?:@(\d{1,9}))?", rest)
    if match is None:
        raise UsageError(f"'phantom:{rest}' is no phantom: write phantom:COUNT or phantom:COUNT@SEED")
    from corpus.sources.phantom import PhantomSource  # late: the phantom is not needed to read files

    return PhantomSource(int(match[1]), int(match[2] or 0))


def _open_manifest(path: Path, admitted: frozenset[str], tables: TableOptions) -> Source:
    from corpus.sources.manifest import ManifestSource

    if path.is_dir():
        recognised = _recognise(path)
        meant = f": it looks like {recognised}:{path.name}" if recognised else ""
        raise CorpusError(f"manifest wants a table, and {path.name!r} is a folder{meant}")
    source = ManifestSource(path, admitted, tables)
    source.read()
    return source


def _require_layout(kind: str, folder: Path) -> None:
    """Check that a folder has the layout of its kind."""
    if not folder.exists():
        raise CorpusError(f"the folder {folder.name!r} is not there: check the path after {kind}:")
    if not folder.is_dir():
        raise CorpusError(f"{kind} wants a folder, and {folder.name!r} is a file")
    try:
        recognised = _recognise(folder)
    except PermissionError as error:
        raise CorpusError(f"the folder {folder.name!r} may not be read by this user") from error
    if kind == recognised or (kind == "dicom" and recognised is None):
        return
    needs = {
        "covid-chestxray": covid_chestxray.TABLE,
        "nih-chestxray14": nih_chestxray14.TABLES,
        "openi": openi.REPORTS,
        "chexpert": f"{' or '.join(chexpert.TABLES)} with its columns",
        "mimic-cxr": f"{mimic_cxr.METADATA} or reports at files/p10/p10000032/s50414267.txt",
        "dicom": "DICOM files",
    }[kind]
    seen = f": it looks like {recognised}" if recognised else ""
    raise CorpusError(f"{folder.name!r} is not {kind}, which has {needs}{seen}")


def _recognise(path: Path) -> str | None:
    """Return the set that a path looks like, by its tables and then by its first files."""
    if path.is_file():
        return "manifest" if path.suffix.lower() in _TABLES else None
    if not path.is_dir():
        return None
    if (path / openi.REPORTS).exists():
        return openi.NAME
    if any(path.glob(nih_chestxray14.TABLES)):
        return nih_chestxray14.NAME
    if (path / covid_chestxray.TABLE).exists():
        return covid_chestxray.NAME
    if chexpert.find_roots(path):
        return chexpert.NAME
    if mimic_cxr.is_mimic_cxr(path):
        return mimic_cxr.NAME
    if (path / "masks.csv").exists():
        return "a folder of images with masks, which is for --masks"
    return "dicom" if any(_has_dicom(file) for file in _first_files(path)) else None


def _first_files(folder: Path) -> list[Path]:
    return [path for path, _ in zip(walk(folder), range(_FILES_LOOKED_AT), strict=False)]


def _has_dicom(path: Path) -> bool:
    try:
        return is_dicom(read_bytes(path, head=132))
    except UnreadableFile:
        return False
