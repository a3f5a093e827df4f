"""`similarity search`: the command. Only click is imported until it runs."""

import sys
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import click

from similarity.cli.console import note, print_json
from similarity.cli.resources import open_index

if TYPE_CHECKING:
    from retrieval.query.query import Query

EPILOG = """\b
Examples:
  similarity search --image image.dcm --for cases -k 5
  similarity search --text "right pleural effusion" --for images --where "view in (pa, ap) and age>=60"
  similarity search --case openi:1000 --for reports --json
  similarity search --image image.dcm --text "without tubes"
  similarity search --image image.dcm --region 310,420,520,640 --for images
  similarity search --finding "effusion and not pneumothorax" --dislike openi:17
  similarity search --batch queries.jsonl > answers.jsonl

Loading the encoder takes seconds: use --batch for many queries. A batch is JSON lines of
{"id", "image", "region", "text", "case", "like", "dislike", "finding", "diversify", "for", "k", "where",
"subject"}; a bad line is answered {"id", "error"} in its place."""


@click.command(epilog=EPILOG)
@click.option("--image", metavar="FILE", help="An image: PNG, JPEG or DICOM.")
@click.option("--region", metavar="L,T,R,B", help="Only this box of the image, in its pixels.")
@click.option(
    "--text", metavar="TEXT", help="A phrase or a whole report; with an image, what else is wanted."
)
@click.option("--case", metavar="STUDY_ID", help="A study of the index, by its stored vectors.")
@click.option("--like", multiple=True, metavar="ID|FILE", help="Relevant example (repeat).")
@click.option("--dislike", multiple=True, metavar="ID|FILE", help="Irrelevant example (repeat).")
@click.option("--finding", metavar="EXPR", help="Only studies with these findings: 'edema and not mass'.")
@click.option("--diversify", is_flag=True, help="Diverse hits (maximal marginal relevance).")
@click.option("--batch", metavar="FILE.jsonl", help="Many queries, one a line; - for stdin.")
@click.option(
    "--for",
    "target",
    type=click.Choice(["images", "reports", "cases"]),
    default="cases",
    show_default=True,
    help="What to return.",
)
@click.option("-k", "k", type=int, default=10, show_default=True, help="How many studies.")
@click.option("--where", metavar="W", help="Only studies that meet this, e.g. 'sex=F and finding=edema'.")
@click.option("--subject", metavar="ID", help="Subject of the query: its own studies are no hits.")
@click.option("--encoder", metavar="DIR|NAME", help="Search the index version of this encoder.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def search(
    image: str | None,
    region: str | None,
    text: str | None,
    case: str | None,
    like: tuple[str, ...],
    dislike: tuple[str, ...],
    finding: str | None,
    diversify: bool,
    batch: str | None,
    target: str,
    k: int,
    where: str | None,
    subject: str | None,
    encoder: str | None,
    as_json: bool,
) -> None:
    """Find similar cases by an image, a phrase, a case, or several of them together.

    k counts studies, the best first. Scores are comparable within one answer. A phrase is read like a report:
    "no effusion" finds reports that say so, "without tubes" excludes cases with a tube.
    """
    from typing import cast

    from corpus.errors import UsageError
    from retrieval.query.query import Query, Target, box_of

    if batch is not None:
        if any((image, region, text, case, like, dislike, finding, diversify)):
            raise UsageError("--batch contains the queries: leave out --image, --text, --case and the like")
        _answer_batch(batch, encoder)
        return
    query = Query(
        image=image,
        text=text,
        case=case,
        target=cast(Target, target),
        k=k,
        where=where,
        subject=subject,
        region=None if region is None else box_of(region),
        like=like,
        dislike=dislike,
        finding=finding,
        diversify=diversify,
    )
    _answer_one(query, encoder, as_json)


def _answer_one(query: "Query", encoder: str | None, as_json: bool) -> None:
    import shutil

    with open_index(encoder) as index:
        from retrieval.search import search

        answer = search(index, query)
    if as_json:
        print_json(answer.as_json(), indent=2)
        return
    from retrieval.display import answer_text

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    if answer.hits:
        click.echo(answer_text(answer, width, colour=terminal), nl=False)
    for remark in (*answer.notes, *filter(None, [answer.reason])):
        note(remark)
    if query.text is not None and not any(
        map(answer.query["understood"].get, ("present", "absent", "uncertain"))
    ):
        language = answer.query["understood"]["language"]
        note(f"no finding was recognised in the text (detected language: {language}): ranked by similarity")
    if answer.own_studies:
        own = ", ".join(case.study_id for case in answer.own_studies)
        note(f"own studies, not among the hits: {own}")
    note(f"took {answer.took.total:.0f} ms after start-up")


def _answer_batch(path: str, encoder: str | None) -> None:
    from retrieval.query.batch import answer_lines

    with _stream(path) as stream, open_index(encoder) as index:
        from retrieval.search import search_all

        for line in answer_lines(stream, partial(search_all, index)):
            print_json(line)


def _stream(path: str) -> BinaryIO:
    from pathlib import Path

    from corpus.errors import UsageError

    if path == "-":
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"
        raise UsageError(f"--batch {path}: {reason}") from None
