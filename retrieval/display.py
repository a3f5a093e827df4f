"""Showing an answer where the user is: in a notebook, or on a terminal."""

import shutil
import sys

from retrieval.answer import Answer
from retrieval.table import answer_text


def show(answer: Answer) -> None:
    """Show an answer with its images in a notebook, else as a table on standard output."""
    if _in_notebook():
        from IPython.display import display

        display(answer)
        return
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    sys.stdout.write(answer_text(answer, width, colour=terminal))
    for note in (answer.reason, *answer.notes):
        if note:
            sys.stdout.write(f"{note}\n")


def _in_notebook() -> bool:
    """Whether this process is a notebook's kernel: IPython is loaded there already."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    return running is not None and hasattr(running, "kernel")
