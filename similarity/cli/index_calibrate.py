"""`similarity index calibrate`, beside the indexer's own commands. Only click is imported until it runs."""

import click

from similarity.cli.index import index


@index.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was learned as JSON.")
def calibrate(as_json: bool) -> None:
    """Learn from the index's own films what its answers can promise.

    Each film is asked about as if it were new, without its own person. Learned are: how many hits can be
    promised to share the main finding, what is no picture of this kind, and what the votes of a draft are
    worth. Films of people that the encoder learned from do not count. Run it again when the index has grown
    by a tenth.
    """
    import json

    from indexer.index import Index
    from retrieval.reliability.fit import calibrate as learn
    from similarity.progress import counting

    with Index.open(read_only=False, on_wait=_note) as opened, counting() as on_step:
        learned = learn(opened, on_step)
    if as_json:
        click.echo(json.dumps(learned.as_json(), ensure_ascii=False))
        return
    told = learned.as_json()
    known = ", ".join(told["learned"]) or "nothing"
    click.echo(f"{told['films']} films of {told['people']} people; learned: {known}")
    for kind, reason in learned.missing.items():
        click.echo(f"no {kind}: {reason}", err=True)


def _note(line: str) -> None:
    click.echo(line, err=True)
