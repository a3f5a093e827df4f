"""Bring what others published under the home: downloaded, or put there by hand, then checked and imported.

Files go to `<home>/downloads/<name>/`. An encoder is imported into `<home>/encoders/<name>`; a SAM file is
used where it lies. Each file is hashed once: a note beside it says what was checked, so that a file of
gigabytes is not read anew at every start, and one put there by hand is checked as a downloaded one is.
"""

import json
import logging
import shlex
from collections.abc import Callable
from pathlib import Path

from corpus.errors import EncoderError, HomeError
from corpus.settings import settings
from trainer.models import hub
from trainer.models.catalog import Known, KnownFile, find_known, require_known
from trainer.models.download import Unreachable, alone, check, download, shown
from trainer.models.registry import ENCODERS
from trainer.runtime.encoder_folder import RECORD

logger = logging.getLogger(__name__)

DOWNLOADS = "downloads"

FileProgress = Callable[[str, int, int | None], None]
"""Told a file's name, its bytes here so far, and its bytes in all (None where the server does not say)."""


def pull(name: str, *, offline: bool = False, on_progress: FileProgress | None = None) -> Path:
    """Have something known ready for use.

    Args:
        name: one of `trainer.models.catalog`, for SAM the file's name too; or `hf-hub:OWNER/REPOSITORY`.
        offline: download nothing; so too with the setting `SIMILARITY_OFFLINE`.
        on_progress: told of each file's bytes; without it the log is.

    Returns:
        The encoder's folder, or the SAM file.

    Raises:
        EncoderError: no such name; a file that is not the published one; or files are missing and cannot be
            fetched: then it says which to fetch from where, where to put them, and what to run then.
        HomeError: the disk is full, or the home cannot be written.
    """
    here = (
        settings().home_folder
        / ENCODERS
        / (hub.local_name(name) if hub.is_hub_name(name) else require_known(name).name)
    )
    if (here / RECORD).is_file() and find_known(name, "sam") is None:
        return here
    offline = offline or settings().offline
    known = _ask_hub(name, offline) if hub.is_hub_name(name) else require_known(name)
    missing = missing_files(known)
    if missing and offline:
        raise EncoderError(
            f"{known.name} is not here yet, and nothing is downloaded offline.\n{how_to(known)}"
        )
    try:
        for file in missing:
            logger.info("downloading %s of %s from %s", file.name, known.name, shown(file.url))
            _download(known, file, on_progress or each_tenth(logger.info))
    except Unreachable as error:
        raise EncoderError(f"{error}\n{how_to(known)}") from error
    for file in known.files:
        check_once(place(known, file), file)
    if known.kind == "sam":
        return place(known, known.weights)
    with alone(place(known, known.weights).parent):
        return here if (here / RECORD).is_file() else _import(known)


def _ask_hub(name: str, offline: bool) -> Known:
    if offline:
        raise EncoderError(f"{name} is not here yet, and nothing is downloaded offline.\n{hub.how_to(name)}")
    try:
        return hub.look_up(name)
    except Unreachable as error:
        raise EncoderError(f"{error}\n{hub.how_to(name)}") from error


def is_here(known: Known) -> bool:
    """Whether it can be used without a download: the encoder is imported, or all its files are there."""
    encoder = settings().home_folder / ENCODERS / known.name
    return (known.kind == "encoder" and (encoder / RECORD).is_file()) or not missing_files(known)


def missing_files(known: Known) -> list[KnownFile]:
    """The files of it that are not in their place."""
    return [file for file in known.files if not place(known, file).is_file()]


def place(known: Known, file: KnownFile) -> Path:
    """Where a file of it lies, or is to be put."""
    return settings().home_folder / DOWNLOADS / known.name / file.name


def how_to(known: Known) -> str:
    """Which files to fetch by hand, where to put them, and what to run then; a line each."""
    lines = []
    for file in missing_files(known):
        size = f", {file.size} bytes" if file.size else ""
        lines += [f"  fetch {file.url} ({_published(file)}{size})", f"  as    {place(known, file)}"]
    return "\n".join(
        [
            "Where there is a network:",
            *lines,
            f"and then run: similarity encoders {_then(known)}",
        ]
    )


def _then(known: Known) -> str:
    if hub.is_hub_name(known.source):  # offline, nobody knows which files the hub has
        return f"import {shlex.quote(str(place(known, known.weights).parent))} --as {shlex.quote(known.name)}"
    return f"pull {shlex.quote(known.name)} --offline"


def each_tenth(say: Callable[[str], None]) -> FileProgress:
    """Progress as a line for each tenth of a file that has come."""
    told: dict[str, int] = {}

    def tell(name: str, here: int, total: int | None) -> None:
        tenths = here * 10 // total if total else 0
        if tenths > told.get(name, 0):
            say(f"{name}: {tenths * 10} % of {total} bytes")
        told[name] = tenths

    return tell


def check_once(path: Path, file: KnownFile) -> str:
    """Compare a file in its place with what is published of it, unless that was done; return its SHA-256.

    Raises:
        EncoderError: it is another file.
    """
    note = path.with_name(f".{path.name}.checked")
    stat = path.stat()
    # What was published is part of the note: a newer version of this program may know more of the file.
    seen = {"bytes": stat.st_size, "changed": stat.st_mtime_ns, "sha256": file.sha256, "md5": file.md5}
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        if noted["seen"] == seen:
            return str(noted["found"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = check(path, sha256=file.sha256, md5=file.md5, size=file.size)
    if not file.hashed:
        logger.info("%s has no published hash; its SHA-256 here is %s", file.name, found)
    try:
        note.write_text(json.dumps({"found": found, "seen": seen}), encoding="utf-8")
    except OSError as error:  # a read-only home: then it is checked anew each time
        logger.info("the check of %s is not noted: %s", file.name, error.strerror)
    return found


def _published(file: KnownFile) -> str:
    if file.sha256:
        return f"SHA-256 {file.sha256}"
    return f"MD5 {file.md5}" if file.md5 else "no published hash"


def _download(known: Known, file: KnownFile, on_progress: FileProgress) -> None:
    home = settings().home_folder
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(f"the home {home} cannot be made: {error.strerror}") from error
    download(
        file.url,
        place(known, file),
        sha256=file.sha256,
        md5=file.md5,
        size=file.size,
        on_progress=lambda here, total: on_progress(file.name, here, total),
    )


def _import(known: Known) -> Path:
    """Make an encoder folder of the files in their place."""
    if known.importer == "medclip":
        from trainer.models.importers.medclip import import_folder
    else:
        from trainer.models.importers.openclip import import_folder

    folder = place(known, known.weights).parent
    logger.info("importing %s from %s", known.name, folder)
    return import_folder(folder, known.name)
