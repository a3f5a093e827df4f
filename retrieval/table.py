"""An answer as a person reads it on a terminal."""

import io

from rich.console import Console
from rich.table import Table
from rich.text import Text

from corpus.findings import VOCABULARY, sides
from corpus.printable import one_line
from retrieval.answer import Answer, Case, Hit

_SNIPPET = 160


def answer_text(answer: Answer, width: int, colour: bool = False) -> str:
    """Lay an answer out as a table, one study a row.

    Args:
        answer: the answer.
        width: columns of the terminal.
        colour: with escape codes; False for a file or a pipe.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("", justify="right")
    table.add_column("score", justify="right")
    table.add_column("study", overflow="fold")
    table.add_column("findings", overflow="fold", max_width=max(18, width // 4))
    table.add_column("why", overflow="fold", ratio=1)
    for hit in answer.hits:
        # Text, never markup: a report may hold [brackets] of its own.
        table.add_row(
            str(hit.rank),
            f"{hit.score:.3f}",
            Text(one_line(hit.case.study_id)),
            Text(findings_of(hit.case)),
            Text(snippet(hit)),
        )
    drawn = io.StringIO()
    console = Console(
        file=drawn, width=width, force_terminal=colour, no_color=not colour, highlight=False, emoji=False
    )
    console.print(table)
    return drawn.getvalue()


def findings_of(case: Case) -> str:
    """The present findings of a case, parents of what is named left out; a `?` after an uncertain one."""
    told = sides(case.findings)
    present = set(told["present"])
    parents = {VOCABULARY.parent(name) for name in present}
    parents |= {VOCABULARY.parent(parent) for parent in parents if parent}
    shown = [name for name in told["present"] if name not in parents]
    uncertain = [f"{name}?" for name in told["uncertain"] if name not in parents]
    note = f"report in {case.language}: findings not read" if case.findings_read is False else ""
    listed = ", ".join([*shown, *uncertain])
    return "; ".join(filter(None, (listed, note))) or "–"


def snippet(hit: Hit) -> str:
    """What speaks for the hit: its best sentence where one was found, else the beginning of its report."""
    sentence = next((evidence.text for evidence in hit.evidence if evidence.text), None)
    text = " ".join((sentence or hit.case.text or hit.item_id).split())
    return text if len(text) <= _SNIPPET else text[: _SNIPPET - 1] + "…"
