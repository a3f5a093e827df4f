"""`similarity search`: the command. Only click is imported until it runs."""

import sys
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import click

if TYPE_CHECKING:
    from indexer.index import Index
    from retrieval.query import Query

EPILOG = """\b
Examples:
  similarity search --image film.dcm --for cases -k 5
  similarity search --text "right pleural effusion" --for images --where "view in (pa, ap) age>=60"
  similarity search --case openi:1000 --for reports --json
  similarity search --batch queries.jsonl > answers.jsonl

One search pays seconds of start-up for the encoder: use --batch for many. A batch is JSON lines of
{"id", "image"|"text"|"case", "for", "k", "where", "subject"}; a bad line is answered {"id", "error"} in its
place."""


@click.command(epilog=EPILOG)
@click.option("--image", metavar="FILE", help="A film: PNG, JPEG or DICOM.")
@click.option("--text", metavar="TEXT", help="A phrase or a whole report.")
@click.option("--case", metavar="STUDY_ID", help="A study of the index; nothing is encoded.")
@click.option("--batch", metavar="FILE.jsonl", help="Many queries, one a line; - for stdin.")
@click.option(
    "--for",
    "target",
    type=click.Choice(["images", "reports", "cases"]),
    default="cases",
    show_default=True,
    help="What comes back.",
)
@click.option("-k", "k", type=int, default=10, show_default=True, help="How many studies.")
@click.option("--where", metavar="W", help="Only studies that meet this, e.g. 'sex=F and finding=edema'.")
@click.option("--subject", metavar="ID", help="Whose query it is: that subject's own studies are no hits.")
@click.option("--encoder", metavar="DIR|NAME", help="Search the index version of this encoder.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def search(
    image: str | None,
    text: str | None,
    case: str | None,
    batch: str | None,
    target: str,
    k: int,
    where: str | None,
    subject: str | None,
    encoder: str | None,
    as_json: bool,
) -> None:
    """Find similar cases from a picture, a phrase or a case.

    k counts studies, the best first. Scores are comparable within one answer.
    """
    from typing import cast

    from corpus.errors import UsageError
    from retrieval.query import Query, Target

    if batch is not None:
        if image is not None or text is not None or case is not None:
            raise UsageError("--batch holds the queries itself: leave out --image, --text and --case")
        _answer_batch(batch, encoder)
        return
    query = Query(image, text, case, cast(Target, target), k, where, subject)
    _answer_one(query, encoder, as_json)


def _answer_one(query: "Query", encoder: str | None, as_json: bool) -> None:
    import json
    import shutil

    with _open(encoder) as index:
        from retrieval.search import search

        answer = search(index, query)
    if as_json:
        click.echo(json.dumps(answer.as_json(), indent=2))
        return
    from retrieval.table import answer_text

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    if answer.hits:
        click.echo(answer_text(answer, width, colour=terminal), nl=False)
    else:
        click.echo("no study of the index meets that", err=True)
    if answer.own_studies:
        own = ", ".join(case.study_id for case in answer.own_studies)
        click.echo(f"own studies, not among the hits: {own}", err=True)
    click.echo(f"took {answer.took.total:.0f} ms beside the start-up", err=True)


def _answer_batch(path: str, encoder: str | None) -> None:
    import json

    from retrieval.batch import answer_lines

    with _stream(path) as stream, _open(encoder) as index:
        from retrieval.search import search_all

        for line in answer_lines(stream, partial(search_all, index)):
            click.echo(json.dumps(line))


def _stream(path: str) -> BinaryIO:
    from pathlib import Path

    from corpus.errors import UsageError

    if path == "-":
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no file name"
        raise UsageError(f"--batch {path}: {reason}") from None


def _open(encoder: str | None) -> "Index":
    """Open the index; with `encoder`, only if its vectors are by that one."""
    from indexer.index import Index

    index = Index.open(on_wait=lambda note: click.echo(note, err=True))
    try:
        index.active_version  # noqa: B018  an empty index is told before the encoder is loaded
        if encoder is not None:
            from corpus.settings import settings
            from trainer.registry import find_encoder

            folder = find_encoder(encoder)  # a wrong name is told before torch is imported
            from trainer.encoder import Encoder

            index.use(Encoder.load(folder, settings().device))
    except BaseException:
        index.close()
        raise
    return index
