"""One untrained encoder for all commands."""

from pathlib import Path

import pytest

from tests.corpus.conftest import make_dicom, png_bytes
from tests.encoders import build_tiny_encoder

__all__ = ["make_dicom", "png_bytes"]  # fixtures


@pytest.fixture(scope="package")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder folder that tests read and never change."""
    return build_tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny")
