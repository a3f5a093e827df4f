"""Extras: packages that only some commands need, and the line that installs them."""

from collections.abc import Iterator
from contextlib import contextmanager

from corpus.errors import EncoderError

_PACKAGES = frozenset({"open_clip", "segment_anything", "timm", "torch", "torchvision", "transformers"})


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Turn a failing import of a package that an extra installs into an instruction.

    Args:
        extra: of the package `similarity-engine`.
        what: needs it, as a message begins: "the method m2ib".

    Raises:
        EncoderError: one of the packages is not installed.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise  # a fault of ours, or of an installation: nothing to install
        raise EncoderError(
            f"{what} needs {package}, which is not installed: pip install 'similarity-engine[{extra}]'"
        ) from error
