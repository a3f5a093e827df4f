"""Extras: packages that only some commands need, and the line that installs them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from corpus.errors import NotInstalled

TRAIN, LOCALIZE, POSTGRES = "train", "localize", "postgres"

EXTRAS: Mapping[str, str] = {
    **dict.fromkeys(("open_clip", "timm", "torch", "torchvision", "transformers", "safetensors"), TRAIN),
    **dict.fromkeys(("huggingface_hub", "onnx", "onnxscript"), TRAIN),
    **dict.fromkeys(("rouge_score", "sacrebleu"), TRAIN),
    "segment_anything": LOCALIZE,
    "psycopg": POSTGRES,
}
"""Package → the extra that installs it. `localize` installs torch and what belongs to it as well."""


@contextmanager
def needs_extra(what: str, extra: str | None = None) -> Iterator[None]:
    """Turn a failing import of a package that an extra installs into an instruction.

    Args:
        what: needs it, as a message begins: "the method m2ib".
        extra: of the package `similarity-engine`; default the one that installs the missing package.

    Raises:
        NotInstalled: one of the packages is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise  # a fault of ours, or of an installation: nothing to install
        raise NotInstalled(
            f"{what} needs {package}, which is not installed: pip install "
            f"'similarity-engine[{extra or EXTRAS[package]}]'"
        ) from error
