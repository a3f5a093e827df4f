"""How answers look in a terminal and in a notebook.

A notebook gets HTML with the images in it: nothing is loaded from elsewhere, texts of reports are escaped,
and images are reduced so that the notebook stays small. This module imports no answer class, so that each of
them can render itself with it.
"""

import io
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

from corpus.errors import SimilarityError
from corpus.notices import one_line
from corpus.redaction import redacted

_PIPE_WIDTH = 160  # columns where standard output is no terminal
_THUMBNAIL = 224  # pixels of the longer side
_CELL = "padding:6px 10px;vertical-align:top;text-align:left;border-top:1px solid #8886"


@redacted
@dataclass(frozen=True, slots=True)
class Row:
    """One hit as it is displayed.

    Attributes:
        rank: from 1.
        score: of the hit.
        study_id: of the hit.
        findings: of the study, in words.
        text: the best sentence or the beginning of the report.
        image: where the study's image is read from.
        evidence: kind, score and text of each piece.
    """

    rank: int
    score: float
    study_id: str
    findings: str
    text: str
    image: str | None
    evidence: tuple[tuple[str, float, str | None], ...]


class Tabular(Protocol):
    """An answer that can be displayed."""

    def rows(self) -> Sequence[Row]:
        """Return its hits, best first."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences for the reader."""

    @property
    def findings_unread(self) -> int:
        """Number of hits with a report in a language without a lexicon."""


def show(answer: Tabular) -> None:
    """Show an answer with its images in a notebook, else as a table on standard output."""
    if _in_notebook():
        from IPython.display import display

        display(answer)
        return
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else _PIPE_WIDTH
    sys.stdout.write(answer_text(answer, width, colour=terminal))
    for remark in answer.remarks:
        sys.stdout.write(f"{remark}\n")


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook: then IPython is loaded already."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    return running is not None and hasattr(running, "kernel")


def answer_text(answer: Tabular, width: int, colour: bool = False) -> str:
    """Return an answer as a table for a terminal, one row per study.

    Args:
        answer: the answer.
        width: columns of the terminal.
        colour: whether escape codes are used; False for a file or a pipe.
    """
    from rich.console import Console  # late: a notebook does not need it
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("", justify="right")
    table.add_column("score", justify="right")
    table.add_column("study", overflow="fold")
    table.add_column("findings", overflow="fold", max_width=max(18, width // 4))
    table.add_column("why", overflow="fold", ratio=1)
    for row in answer.rows():
        # Text, never markup: a report may hold [brackets] of its own.
        table.add_row(
            str(row.rank),
            f"{row.score:.3f}",
            Text(one_line(row.study_id)),
            Text(row.findings),
            Text(row.text),
        )
    written = io.StringIO()
    console = Console(
        file=written, width=width, force_terminal=colour, no_color=not colour, highlight=False, emoji=False
    )
    console.print(table)
    return written.getvalue()


def answer_html(answer: Tabular) -> str:
    """Return an answer as an HTML table: image, study, findings and evidence of each hit."""
    from retrieval.export.drawing import NOTICE  # late: scipy is not needed in a terminal

    remarks = list(answer.remarks)
    if answer.findings_unread:
        remarks.append(
            f"Findings not read: {answer.findings_unread} reports in a language without a lexicon."
        )
    head = "".join(f"<p>{escape(remark)}</p>" for remark in remarks)
    rows = "".join(map(_row_html, answer.rows()))
    return f'<div>{head}<table style="border-collapse:collapse">{rows}</table><p><i>{NOTICE}</i></p></div>'


def _row_html(row: Row) -> str:
    evidence = "".join(
        f"<li>{escape(kind)} {score:.3f}{': ' + escape(text) if text else ''}</li>"
        for kind, score, text in row.evidence
    )
    return (
        f'<tr><td style="{_CELL}">{row.rank}</td><td style="{_CELL}">{_thumbnail_html(row.image)}</td>'
        f'<td style="{_CELL}"><b>{escape(row.study_id)}</b><br>score {row.score:.3f}<br>'
        f'{escape(row.findings)}</td><td style="{_CELL};max-width:34em">{escape(row.text)}'
        f'<ul style="margin:4px 0">{evidence}</ul></td></tr>'
    )


def _thumbnail_html(path: str | None) -> str:
    """The image of a case as an element, or a dash where there is none that can be read."""
    import numpy as np  # late, as above
    from PIL import Image

    from corpus.images.reader import read_image
    from retrieval.export.drawing import image_html

    if path is None:
        return "–"
    try:
        pixels = read_image(path)
    except SimilarityError:
        return "–"
    scale = min(1.0, _THUMBNAIL / max(pixels.shape))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    image = Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    return image_html(np.asarray(image))
