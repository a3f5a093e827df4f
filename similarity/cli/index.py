"""`similarity index`: embed a corpus, report and verify what is stored, calibrate, erase."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from corpus.notices import format_bytes, format_duration, one_line
from similarity.cli.console import counted, note, print_json, print_record
from similarity.cli.options import SourceOptions, source_options
from similarity.cli.resources import open_catalog, open_encoder
from similarity.progress import added_progress, progress_bars

if TYPE_CHECKING:
    from corpus.records import Source
    from indexer.index import Index
    from indexer.ingest.removal import OtherSubject
    from trainer.runtime.encoder import Encoder


@click.group()
def index() -> None:
    """Embed a corpus; report and verify what is stored; calibrate; erase."""


@index.command()
@click.argument("source", required=False)
@click.option("--encoder", "encoder_name", metavar="DIR|NAME", help="Encoder; needed for the first source.")
@source_options
@click.option(
    "--patches", is_flag=True, help="Also store patch vectors of the images, for searches by region."
)
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    help="Decode processes (default: one a core); 0 decodes in this process.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Print items, time, disk and memory; write nothing.")
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

    Only new and changed items are embedded, and what the source no longer has is deleted. Items that cannot
    be read are recorded with the reason (`index status --failed`) and skipped. A new encoder makes a second
    version beside the active one (`index versions`); without SOURCE it embeds the studies of the index.
    """
    from corpus.errors import UsageError

    if source is None and (encoder_name is None or only_plan or options.given):
        raise UsageError("name a SOURCE; --encoder alone embeds the studies of the index by a second encoder")
    opened = None if source is None else options.open(source)
    if only_plan and opened is not None:
        _plan(opened, encoder_name, workers, as_json)
        return
    from indexer.index import Index
    from indexer.ingest.pipeline import add_source
    from indexer.versions import CatalogSource

    with Index.open(read_only=False, on_wait=note) as opened_index:
        encoder = _load_encoder(opened_index, encoder_name)
        with progress_bars() as on_progress, _noting_interrupts():
            added = add_source(
                opened_index,
                opened or CatalogSource(opened_index.catalog),
                encoder,
                origin=source or CatalogSource.name,
                folder=str(encoder.folder),
                patches=patches,
                workers=workers,
                observer=added_progress(on_progress),
            )
        stored = sum(opened_index.catalog.counts()["studies"].values())
        active = opened_index.active_version.fingerprint == encoder.fingerprint
    done = {
        "source": source or CatalogSource.name,
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
    }
    if as_json:
        print_json({**done, **added.as_json(), "notices": options.notices.as_json()})
    else:  # each notice was printed when it was met
        studies = f"{added.studies:,} read; the index has {stored:,}"
        shown = {name: value for name, value in added.as_json().items() if name != "missing"}  # named below
        print_record({**done, **shown, "studies": studies})
    if any(added.problems.values()):
        counts = ", ".join(f"{n} {state}" for state, n in added.problems.items() if n)
        note(f"{counts}: see `similarity index status --failed`")
    unread = added.reports.warning()
    if unread is not None:
        note(unread)
    if active and added.missing:
        note(
            f"{counted(added.missing, 'item has', 'items have')} no vector, which the store lost: add their "
            "sources again"
        )
    if strict and added.problems["failed"]:
        raise SystemExit(1)


@contextmanager
def _noting_interrupts() -> Iterator[None]:
    """Say what Ctrl-C leaves."""
    try:
        yield
    except KeyboardInterrupt:
        note("stopped: what was committed is safe, run the command again to go on")
        raise


@index.command()
@click.option(
    "--failed",
    is_flag=True,
    help="List every item that is missing from the index or has a remark, with the reason.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def status(failed: bool, as_json: bool) -> None:
    """Count the studies, items and vectors of the index, and the items that failed."""
    from corpus.settings import settings
    from indexer.versions import status_of

    with open_catalog() as catalog:
        state = status_of(settings().home_folder, catalog, failed=failed)
    if as_json:
        print_json(state)
    elif failed:
        for item in state["items"]:
            click.echo(f"{item['state']}  {one_line(item['item_id'])}  {one_line(item['reason'])}")
    else:
        print_record(state)


@index.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify(as_json: bool) -> None:
    """Compare catalog, ledger and vectors both ways; exit with 1 on any fault."""
    from indexer.index import Index
    from indexer.ingest.repair import verify as compare

    # Beside a run, its steps would look like faults.
    with Index.open(read_only=False, on_wait=note) as opened, opened.writing("index verify"):
        verified = compare(opened)
    if as_json:
        print_json(verified.as_json())
    else:
        for fault in verified.faults:
            click.echo(f"{fault.fault}: {one_line(fault.item)} in {fault.collection}")
        total = sum(verified.vectors.values())
        click.echo(f"{total} vectors, {len(verified.faults)} faults")
    if verified.faults:
        raise SystemExit(1)


@index.command()
@click.option(
    "--vectors-lost",
    is_flag=True,
    help="The vectors are gone for good: accept a store that has none of this index.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def repair(vectors_lost: bool, as_json: bool) -> None:
    """Make ledger and vectors agree: delete what killed runs left, and forget vectors that are gone.

    `index add` does this by itself. What was forgotten is embedded again when its source is added again.
    """
    from indexer.index import Index
    from indexer.ingest.repair import repair_versions

    with Index.open(read_only=False, on_wait=note, check=not vectors_lost) as opened:
        if vectors_lost:
            opened.accept_lost_vectors()
        repaired = repair_versions(opened)
    if as_json:
        print_json(repaired.as_json())
        return
    click.echo(f"{repaired.deleted:,} vectors deleted, {repaired.lost:,} forgotten")
    if repaired.lost:
        note("add their sources again to embed what was forgotten")


@index.command()
@click.option(
    "--drop-earlier",
    is_flag=True,
    help="Then drop the collections of the earlier version, but for those that another index may use.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def upgrade(drop_earlier: bool, as_json: bool) -> None:
    """Move the vectors of an earlier version on a Qdrant server to collections of this index's own.

    Earlier versions shared collections among indexes of one encoder. Vectors are copied; nothing is embedded
    again. An index in the home has nothing to move.
    """
    from indexer.index import Index
    from indexer.upgrade import upgrade as move

    with (
        Index.open(read_only=False, on_wait=note, check=False) as opened,
        progress_bars() as on_progress,
    ):
        upgraded = move(opened, drop_earlier=drop_earlier, on_progress=on_progress)
    if as_json:
        print_json(upgraded.as_json())
    else:
        for collection, count in upgraded.copied.items():
            click.echo(f"{collection}: {counted(count, 'vector', 'vectors')} copied")
        for collection in upgraded.dropped:
            click.echo(f"{collection}: dropped")
        if not upgraded.copied and not upgraded.dropped:
            click.echo("nothing to move")
    if upgraded.lost:
        note(f"{counted(upgraded.lost, 'vector is', 'vectors are')} gone: add their sources again")
    for collection, unknown in upgraded.shared.items():
        note(
            f"{collection} stays: it has {counted(unknown, 'vector', 'vectors')} of another index, or of "
            "studies erased since; when no index uses it, drop it on the server"
        )
    left = [name for name in upgraded.earlier if name not in upgraded.shared]
    if left:
        note(f"{', '.join(left)}: no longer used; `similarity index upgrade --drop-earlier` drops them")


_PLURALS = {"patch": "patches"}


@index.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def versions(as_json: bool) -> None:
    """List the index versions: one an encoder, with its vectors and the items it lacks."""
    from indexer.versions import list_versions

    with open_catalog() as catalog:
        states = [state.as_json() for state in list_versions(catalog)]
    if as_json:
        print_json({"versions": states})
        return
    for version in states:
        lacks = f", lacks {version['missing']}" if version["missing"] else ""
        vectors = ", ".join(
            counted(n, kind, _PLURALS.get(kind, f"{kind}s")) for kind, n in version["vectors"].items() if n
        )
        name = f"{one_line(version['name'])}  {version['fingerprint'][:8]}"
        click.echo(f"{version['state']:8}  {name}  {vectors or 'nothing'}{lacks}")


@index.command()
@click.argument("version", metavar="NAME|FINGERPRINT")
def activate(version: str) -> None:
    """Make this version the active one; running searches finish on the version they began with."""
    from indexer.index import Index
    from indexer.versions import activate as switch

    with Index.open(read_only=False, on_wait=note) as opened:
        chosen = switch(opened, version)
    click.echo(f"{one_line(chosen.name)} ({chosen.fingerprint[:8]}) is the active version")


@index.command()
@click.option("--subject", metavar="SUBJECT_ID", help="Erase every study of this subject.")
@click.option("--study", metavar="STUDY_ID", help="Erase this study.")
@click.option("--version", metavar="NAME|FINGERPRINT", help="Drop the vectors of this encoder.")
@click.option("--yes", is_flag=True, help="Erase without asking: for scripts.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON; needs --yes.")
def remove(subject: str | None, study: str | None, version: str | None, yes: bool, as_json: bool) -> None:
    """Erase a subject or a study everywhere: catalog, vectors of every version, sentences of no other report,
    recorded problems. The studies are listed, and erased when you agree. Or drop a version that is not
    active.

    Several subjects may share a patient id: those that stay are named. Where no study is SUBJECT_ID's and
    other subjects have its patient id, nothing is erased and the exit code is 1.
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

    with Index.open(read_only=False, on_wait=note) as opened:
        if version is not None:
            removed = Removed((), drop_version(opened, version), 0)
        else:
            removed = remove_study(opened, study) if study else remove_subject(opened, str(subject))
    outcome = removed.as_json()
    if as_json:
        print_json(outcome)
    else:
        del outcome["not_erased"]  # named below, each with the option that erases it
        print_record(outcome)
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
            note(f"not erased: a study of the same patient id and an unknown subject: --study {name}")
        else:
            count = counted(other.studies, "study", "studies")
            note(f"not erased: another subject of the same patient id, with {count}: --subject {name}")
    if len(others) > _LISTED:
        note(f"not erased: {len(others) - _LISTED:,} more subjects of the same patient id (all: --json)")


def _ask_to_erase(subject: str | None, study: str | None) -> bool:
    """List what would be erased and ask the user, unless nothing is found. The index is closed meanwhile.

    Returns:
        Whether the other subjects of the patient id were named, too.
    """
    import sys

    from corpus.errors import UsageError
    from indexer.ingest.removal import other_subjects, studies_to_erase

    with open_catalog() as catalog:
        listed = studies_to_erase(catalog, study_id=study, subject_id=subject)
        others = [] if subject is None else other_subjects(catalog, subject)
    if not listed:
        return False
    images, reports = sum(one.images for one in listed), sum(one.reports for one in listed)
    whole = f"{counted(len(listed), 'study', 'studies')}, {_items(images, reports)}"
    if not sys.stdin.isatty():
        raise UsageError(f"this would erase {whole}; stdin is no terminal to confirm on: add --yes")
    for one in listed[:_LISTED]:
        note(f"{one_line(one.study_id)}  {one.date or 'no date'}  {_items(one.images, one.reports)}")
    if len(listed) > _LISTED:
        note(f"… and {len(listed) - _LISTED} more studies")
    _name_not_erased(others)
    if not click.confirm(f"Erase {whole} for good?", err=True):
        note("nothing was erased")
        raise SystemExit(1)
    return True


def _items(images: int, reports: int) -> str:
    return f"{counted(images, 'image', 'images')}, {counted(reports, 'report', 'reports')}"


def _plan(source: Source, encoder_name: str | None, workers: int | None, as_json: bool) -> None:
    from indexer.ingest.plan import plan

    cost = plan(source, open_encoder(encoder_name or _active_folder()), workers).as_json()
    if as_json:
        print_json(cost)
        return
    cost["time"] = format_duration(cost.pop("hours") * 3600)
    cost["disk"] = format_bytes(cost.pop("disk_bytes"))
    cost["memory"] = format_bytes(cost.pop("memory_bytes"))
    cost["measured on"] = cost.pop("sampled")
    print_record(cost)


def _active_folder() -> str:
    """Return the folder of the active encoder; a home that is not there is not made."""
    from corpus.errors import UsageError
    from corpus.settings import settings

    if not settings().home_folder.exists():
        raise UsageError("name the encoder to plan for with --encoder")
    from indexer.index import Index

    with Index.open(on_wait=note) as opened:
        return opened.active_version.folder


def _load_encoder(opened: Index, name: str | None) -> Encoder:
    from corpus.errors import UsageError

    version = opened.catalog.active_version()
    if name is None and version is None:
        raise UsageError("the index is empty: name the encoder to fill it with by --encoder DIR")
    encoder = open_encoder(name if name is not None else str(version and version.folder))
    if name is None:
        opened.use(encoder)  # its folder may have been edited
    elif version is not None and version.fingerprint != encoder.fingerprint:
        note(f"{version.name} stays the active version, until `similarity index activate`")
    return encoder


_FITTED = {"gate": "out-of-distribution detector"}
"""What is printed instead of a name of the JSON answer."""


@index.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was fitted as JSON.")
def calibrate(as_json: bool) -> None:
    """Fit on the index's own images what answers can promise.

    Each image is a query without its own subject. Fitted are the conformal guarantee (how many hits share the
    main finding), the out-of-distribution detector (images that are no query for this index), and the weights
    of the votes of a draft. Images of subjects in the encoder's training are excluded. Run it again when the
    index has grown by a tenth.
    """
    from indexer.index import Index
    from retrieval.reliability.fit import calibrate as fit

    with Index.open(read_only=False, on_wait=note) as opened, progress_bars() as on_progress:
        fitted = fit(opened, on_progress)
    outcome = fitted.as_json()
    if as_json:
        print_json(outcome)
        return
    names = ", ".join(_FITTED.get(kind, kind) for kind in outcome["learned"]) or "nothing"
    whole = (
        f"{counted(fitted.images, 'image', 'images')} of {counted(fitted.subjects, 'subject', 'subjects')}"
    )
    click.echo(f"{whole}; fitted: {names}")
    for kind, reason in fitted.missing.items():
        note(f"no {_FITTED.get(kind, kind)}: {reason}")
