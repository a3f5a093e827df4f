"""Images as the library takes them: a file, an image of Pillow, or an array."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.query.image import QueryImage, make_query_image, read_query_image

_SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

ImageLike: TypeAlias = "str | Path | Image.Image | NDArray[Any]"
"""A file (PNG, JPEG, DICOM; `phantom://SEED/NUMBER` is drawn), an image of Pillow in any mode, or an array:
(height, width) grey or (height, width, 3) colour; uint8 in [0, 255], uint16, or float in [0, 1]."""


def read_image(image: ImageLike) -> NDArray[np.float32]:
    """Read an image as grey.

    Args:
        image: see `ImageLike`. DICOM goes through its look-up tables and is brought to the standard hanging.

    Returns:
        (height, width) float32 in [0, 1].

    Raises:
        UnreadableImage: it cannot be turned into such pixels.
        NotAdmitted: its DICOM header says that it is no chest radiograph.
        UsageError: the array has another shape or type.
    """
    return to_query_image(image).pixels


def to_query_image(image: ImageLike) -> QueryImage:
    """Read an image with what its header says; raises as `read_image`."""
    return read_query_image(image) if isinstance(image, str | Path) else make_query_image(image)


def names_image(text: str) -> bool:
    """Return whether a text is the name of an image: a file that is there, or one that is drawn."""
    if text.startswith("phantom://"):
        return True
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a phrase can be too long for a file name
        return False


def is_image_name(text: str) -> bool:
    """Return whether a text ends as the name of an image file does, whether or not there is one."""
    return text.lower().endswith(_SUFFIXES)
