"""DICOM files made to measure."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

DX_IMAGE = "1.2.840.10008.5.1.4.1.1.1.1"


def dicom_of(pixels: np.ndarray, **elements: Any) -> Dataset:
    """A digital radiograph of these stored values; an element given as None is left out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DX_IMAGE
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    bits = 8 * pixels.dtype.itemsize
    defaults: dict[str, Any] = {
        "SOPClassUID": DX_IMAGE,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.3",
        "PatientID": "P1",
        "Modality": "DX",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": elements.get("BitsStored", bits) - 1 if elements.get("BitsStored", bits) else None,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
    }
    for keyword, value in (defaults | elements).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    return dataset


@pytest.fixture(scope="session")
def make_dicom() -> Callable[..., Path]:
    """Write a DICOM file: `make_dicom(path, pixels, Modality="CR", …)`."""

    def make(path: Path, pixels: np.ndarray | None = None, **elements: Any) -> Path:
        if pixels is None:
            pixels = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
        path.parent.mkdir(parents=True, exist_ok=True)
        dicom_of(pixels, **elements).save_as(path, enforce_file_format=True)
        return path

    return make


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    """Make a header over stored values, without a file."""
    return dicom_of


@pytest.fixture(scope="session")
def png_bytes() -> bytes:
    """A small PNG that reads."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(32 * 32, dtype=np.uint16).reshape(32, 32).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
