"""`similarity index`: embed a corpus; ask what is there, whether it is sound; erase."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corpus.printable import one_line, spelled_bytes, spelled_duration
from similarity.cli.source_options import SourceOptions, source_options

if TYPE_CHECKING:
    from corpus.records import Source
    from indexer.index import Index
    from indexer.ingest.removal import OtherSubject
    from trainer.runtime.encoder import Encoder


@click.group()
def index() -> None:
    """Embed a corpus; ask what is there and whether it is sound; erase."""


@index.command()
@click.argument("source", required=False)
@click.option("--encoder", "encoder_name", metavar="DIR|NAME", help="Encoder; needed for the first source.")
@source_options
@click.option("--patches", is_flag=True, help="Keep its pictures' patches, too: for searches by region.")
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    help="Decode processes (default: one a core); 0 decodes in the command's own.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Say what it would cost; write nothing.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an item failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def add(
    source: str | None,
    encoder_name: str | None,
    options: SourceOptions,
    patches: bool,
    workers: int | None,
    only_plan: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Bring the index up to date with SOURCE (KIND:PATH, see `similarity corpus --help`).

    Run again, it does only what is missing or has changed. Items that cannot be read are recorded with the
    reason (`index status --failed`) and passed over. An encoder that the index does not know yet makes a
    second version beside the one that is searched (`index versions`); without SOURCE it embeds what the index
    holds.
    """
    from corpus.errors import UsageError

    if source is None and (encoder_name is None or only_plan or options.given):
        raise UsageError("name a SOURCE, or with --encoder alone a second encoder for what the index holds")
    opened = None if source is None else options.open(source)
    if only_plan and opened is not None:
        _plan(opened, encoder_name, workers, as_json)
        return
    from indexer.index import Index
    from indexer.ingest.pipeline import add_source
    from indexer.versions import HeldStudies
    from similarity.progress import progress

    with Index.open(read_only=False, on_wait=_note) as opened_index:
        encoder, folder = _load_encoder(opened_index, encoder_name)
        with progress() as observer:
            added = add_source(
                opened_index,
                opened or HeldStudies(opened_index.catalog),
                encoder,
                origin=source or HeldStudies.name,
                folder=str(folder),
                patches=patches,
                workers=workers,
                observer=observer,
            )
    done = {
        "source": source or HeldStudies.name,
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
    }
    # On a terminal each notice was printed when it was met.
    notices = {"notices": options.notices.as_json()} if as_json else {}
    _report({**done, **added.as_json(), **notices}, as_json)
    if any(added.problems.values()):
        told = ", ".join(f"{n} {state}" for state, n in added.problems.items() if n)
        click.echo(f"{told}: see `similarity index status --failed`", err=True)
    unread = added.reports.warning()
    if unread is not None:
        _note(unread)
    if strict and added.problems["failed"]:
        raise SystemExit(1)


@index.command()
@click.option(
    "--failed",
    is_flag=True,
    help="List every item that is not in the index, or is noted, and why.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(failed: bool, as_json: bool) -> None:
    """Say what the index holds."""
    from indexer.catalog.catalog import Catalog
    from indexer.catalog.database import open_database
    from indexer.home import Home
    from indexer.status import status_of

    home = Home.open()
    engine = open_database(home)
    try:
        told = status_of(home.folder, Catalog(engine), failed=failed)
    finally:
        engine.dispose()
    if failed and not as_json:
        for item in told["items"]:
            click.echo(f"{item['state']}  {one_line(item['item_id'])}  {one_line(item['reason'])}")
        return
    _report(told, as_json)


@index.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify(as_json: bool) -> None:
    """Compare catalog, ledger and vectors both ways; exit with 1 on any fault."""
    from indexer.index import Index
    from indexer.ingest.repair import verify as compare

    # Beside a run, its steps would look like faults.
    with Index.open(read_only=False, on_wait=_note) as opened:
        verified = compare(opened)
    if as_json:
        _report(verified.as_json(), True)
    else:
        for fault in verified.faults:
            click.echo(f"{fault.fault}: {one_line(fault.item)} in {fault.collection}")
        total = sum(verified.vectors.values())
        click.echo(f"{total} vectors, {len(verified.faults)} faults")
    if verified.faults:
        raise SystemExit(1)


@index.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def versions(as_json: bool) -> None:
    """List the encoders whose vectors the index holds, and what each of them lacks."""
    from indexer.catalog.catalog import Catalog
    from indexer.catalog.database import open_database
    from indexer.home import Home
    from indexer.versions import list_versions

    engine = open_database(Home.open())
    try:
        told = [state.as_json() for state in list_versions(Catalog(engine))]
    finally:
        engine.dispose()
    if as_json:
        _report({"versions": told}, True)
        return
    for version in told:
        lacks = f", lacks {version['missing']}" if version["missing"] else ""
        held = ", ".join(f"{n} {kind}s" for kind, n in version["vectors"].items() if n)
        name = f"{one_line(version['name'])}  {version['fingerprint'][:8]}"
        click.echo(f"{version['state']:8}  {name}  {held or 'nothing'}{lacks}")


@index.command()
@click.argument("version", metavar="NAME|FINGERPRINT")
def activate(version: str) -> None:
    """Search by this version from now on; searches that run go on undisturbed."""
    from indexer.index import Index
    from indexer.versions import activate as switch

    with Index.open(read_only=False, on_wait=_note) as opened:
        chosen = switch(opened, version)
    click.echo(f"{one_line(chosen.name)} ({chosen.fingerprint[:8]}) is searched from now on")


@index.command()
@click.option("--subject", metavar="SUBJECT_ID", help="Erase every study of this person.")
@click.option("--study", metavar="STUDY_ID", help="Erase this study.")
@click.option("--version", metavar="NAME|FINGERPRINT", help="Drop the vectors of this encoder.")
@click.option("--yes", is_flag=True, help="Erase without asking: for scripts.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON; needs --yes.")
def remove(subject: str | None, study: str | None, version: str | None, yes: bool, as_json: bool) -> None:
    """Erase a person or a study everywhere: catalog, vectors of every version, sentences nobody else says,
    problems. The studies are listed, and erased when you agree. Or drop a version that is not searched.

    A patient id may be that of several subjects: those that are left are named. Where none of the studies is
    SUBJECT_ID's and others have its patient id, nothing is erased and the exit code is 1.
    """
    if sum(name is not None for name in (subject, study, version)) != 1:
        raise click.UsageError("name either --subject, --study or --version")
    asks = version is None and not yes
    if asks and as_json:
        raise click.UsageError("--json is for scripts, which cannot be asked: add --yes")
    named = asks and _ask_to_erase(subject, study)
    from indexer.index import Index
    from indexer.ingest.removal import Removed, remove_study, remove_subject
    from indexer.versions import drop_version

    with Index.open(read_only=False, on_wait=_note) as opened:
        if version is not None:
            removed = Removed((), drop_version(opened, version), 0)
        else:
            removed = remove_study(opened, study) if study else remove_subject(opened, str(subject))
    outcome = removed.as_json()
    if not as_json:
        del outcome["not_erased"]  # people read of them below, each with the option that erases it
    _report(outcome, as_json)
    if not named:
        _name_not_erased(removed.not_erased)
    if removed.not_erased and not removed.studies:
        raise SystemExit(1)


_LISTED = 20


def _name_not_erased(others: Sequence[OtherSubject]) -> None:
    """Say which other subjects have the patient id, and how each of them is erased."""
    for other in others[:_LISTED]:
        name = shlex.quote(one_line(other.subject_id))
        if other.undecided:
            _note(f"not erased: a study of the same patient id, nothing tells whose: --study {name}")
        else:
            count = _counted(other.studies, "study", "studies")
            _note(f"not erased: another subject of the same patient id, with {count}: --subject {name}")
    if len(others) > _LISTED:
        _note(f"not erased: {len(others) - _LISTED:,} subjects more of the same patient id (all: --json)")


def _ask_to_erase(subject: str | None, study: str | None) -> bool:
    """List what would be erased and go on if somebody agrees; there is nothing to ask where nothing is found.

    The index is not held meanwhile: people take their time.

    Returns:
        Whether the other subjects of the patient id were named, too.
    """
    import sys

    from corpus.errors import UsageError
    from indexer.catalog.catalog import Catalog
    from indexer.catalog.database import open_database
    from indexer.home import Home
    from indexer.ingest.removal import other_subjects, studies_to_erase

    engine = open_database(Home.open())
    try:
        catalog = Catalog(engine)
        listed = studies_to_erase(catalog, study_id=study, subject_id=subject)
        others = [] if subject is None else other_subjects(catalog, subject)
    finally:
        engine.dispose()
    if not listed:
        return False
    images, reports = sum(one.images for one in listed), sum(one.reports for one in listed)
    whole = f"{_counted(len(listed), 'study', 'studies')}, {_items(images, reports)}"
    if not sys.stdin.isatty():
        raise UsageError(f"this would erase {whole} and nobody can be asked here: add --yes to erase them")
    for one in listed[:_LISTED]:
        _note(f"{one_line(one.study_id)}  {one.date or 'no date'}  {_items(one.images, one.reports)}")
    if len(listed) > _LISTED:
        _note(f"… and {len(listed) - _LISTED} studies more")
    _name_not_erased(others)
    if not click.confirm(f"Erase {whole} for good?", err=True):
        _note("nothing was erased")
        raise SystemExit(1)
    return True


def _items(images: int, reports: int) -> str:
    return f"{_counted(images, 'image', 'images')}, {_counted(reports, 'report', 'reports')}"


def _counted(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _plan(source: Source, encoder_name: str | None, workers: int | None, as_json: bool) -> None:
    from corpus.settings import settings
    from indexer.ingest.plan import plan
    from trainer.models.registry import find_encoder
    from trainer.runtime.encoder import Encoder

    encoder = Encoder.load(find_encoder(encoder_name or _active_folder()), settings().device)
    told = plan(source, encoder, workers).as_json()
    if as_json:
        _report(told, as_json)
        return
    told["time"] = spelled_duration(told.pop("hours") * 3600)
    told["disk"] = spelled_bytes(told.pop("disk_bytes"))
    told["memory"] = spelled_bytes(told.pop("memory_bytes"))
    told["measured on"] = told.pop("sampled")
    _report(told, as_json)


def _active_folder() -> str:
    """Where the active encoder lies, read from a home only if there is one."""
    from corpus.errors import UsageError
    from corpus.settings import settings

    if not settings().home_folder.exists():
        raise UsageError("name the encoder to plan for with --encoder")
    from indexer.index import Index

    with Index.open(on_wait=_note) as opened:
        return opened.active_version.folder


def _load_encoder(opened: Index, name: str | None) -> tuple[Encoder, Path]:
    from corpus.errors import UsageError
    from corpus.settings import settings
    from trainer.models.registry import find_encoder
    from trainer.runtime.encoder import Encoder

    version = opened.catalog.active_version()
    if name is None and version is None:
        raise UsageError("the index is empty: name the encoder to fill it with by --encoder DIR")
    folder = find_encoder(name if name is not None else str(version and version.folder))
    encoder = Encoder.load(folder, settings().device)
    if name is None:
        opened.use(encoder)  # its folder may have been edited
    elif version is not None and version.fingerprint != encoder.fingerprint:
        _note(f"{version.name} is searched on: this is beside it, until `similarity index activate`")
    return encoder, folder


def _note(line: str) -> None:
    click.echo(line, err=True)


def _report(told: dict[str, Any], as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    for name, value in told.items():
        if isinstance(value, dict):
            parts = ", ".join(f"{key} {_short(entry)}" for key, entry in value.items())
            click.echo(f"{name}: {parts or 'none'}")
        elif isinstance(value, list):
            click.echo(f"{name}: " + ("; ".join(map(_short, value)) or "none"))
        else:
            click.echo(f"{name}: {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(entry)}" for key, entry in value.items())
    return f"{value:.2f}" if isinstance(value, float) else one_line(str(value))
