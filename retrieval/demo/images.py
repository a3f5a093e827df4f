"""Pictures for a page that stands alone: read, made small, written into the page itself."""

import base64
import io

import numpy as np
from PIL import Image

from corpus.images.reader import read_image


def inline_png(location: str, longest: int = 240) -> str:
    """Read a picture and return it as a `data:` address of a grey PNG.

    Args:
        location: as for `corpus.images.reader.read_image`.
        longest: the longest side of the small picture, in pixels.

    Raises:
        UnreadableImage: the picture cannot be read.
    """
    grey = Image.fromarray(np.rint(read_image(location) * 255).astype(np.uint8))
    grey.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    grey.save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")
