"""Answers as a notebook shows them: HTML with the images in it, and nothing from elsewhere.

Texts of reports are escaped; nothing here runs. Images are reduced, so that a notebook stays small.
"""

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corpus.errors import SimilarityError
from corpus.images.reader import read_image
from retrieval.answer import Answer, Hit
from retrieval.draft.text import Draft
from retrieval.localize.answer import Localization
from retrieval.table import findings_of, snippet

_THUMBNAIL = 224  # pixels of the longer side
_NOTICE = "Research software. Not for diagnosis."
_CELL = "padding:6px 10px;vertical-align:top;text-align:left;border-top:1px solid #8886"


def answer_html(answer: Answer) -> str:
    """Return the hits as a table: image, study, findings, and what speaks for each."""
    notes = [note for note in (answer.reason, *answer.notes) if note]
    if answer.findings_unread:
        notes.append(f"Findings not read: {answer.findings_unread} reports in a language without a lexicon.")
    head = "".join(f"<p>{escape(note)}</p>" for note in notes)
    rows = "".join(map(_row, answer.hits))
    return f'<div>{head}<table style="border-collapse:collapse">{rows}</table><p><i>{_NOTICE}</i></p></div>'


def _row(hit: Hit) -> str:
    evidence = "".join(
        f"<li>{escape(part.kind)} {part.score:.3f}{': ' + escape(part.text) if part.text else ''}</li>"
        for part in hit.evidence
    )
    return (
        f'<tr><td style="{_CELL}">{hit.rank}</td><td style="{_CELL}">{_thumbnail(hit.case.path)}</td>'
        f'<td style="{_CELL}"><b>{escape(hit.case.study_id)}</b><br>score {hit.score:.3f}<br>'
        f'{escape(findings_of(hit.case))}</td><td style="{_CELL};max-width:34em">{escape(snippet(hit))}'
        f'<ul style="margin:4px 0">{evidence}</ul></td></tr>'
    )


def _thumbnail(path: str | None) -> str:
    """The image of a case, or a dash where there is none that can be read."""
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


def image_html(pixels: NDArray[np.uint8]) -> str:
    """Return an image as an element of its own data: (height, width) grey or (height, width, 3) RGB."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    data = base64.b64encode(written.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'


def localization_html(found: Localization) -> str:
    """Return the overlay, or why there is no mask."""
    told = found.words if found.mask is not None else found.reason
    shown = "" if found.image is None else image_html(found.overlay())
    return f"<div><p><b>{escape(found.phrase)}</b>: {escape(told or '')}</p>{shown}</div>"


def draft_html(draft: Draft) -> str:
    """Return the draft as text, each sentence with its evidence."""
    return f'<pre style="white-space:pre-wrap">{escape(draft.text())}</pre>'
