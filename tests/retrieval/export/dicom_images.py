"""DICOM images and localizations for export tests."""

from pathlib import Path
from typing import Any

import numpy as np

from retrieval.localize.answer import Localization
from tests.corpus.conftest import dicom_of

ROWS, COLUMNS = 60, 48
FINGERPRINT = "0123456789abcdef" * 4

PATIENT = {
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Müller^Jürgen",
    "PatientID": "ID-4711",
    "PatientBirthDate": "19500203",
    "PatientSex": "M",
    "PatientComments": "lives next door",
    "PatientAddress": "Hinterhof 3",
    "InstitutionName": "Hospital of the North",
    "AccessionNumber": "A77",
    "StudyInstanceUID": "1.2.826.0.1.1",
    "SeriesInstanceUID": "1.2.826.0.1.2",
    "StudyDate": "20200102",
    "StudyTime": "101112",
    "StudyID": "9",
    "ReferringPhysicianName": "House^Gregory",
}


def write_image(path: Path, **elements: Any) -> Path:
    """A digital radiograph with a patient and 0.2 × 0.4 mm pixels; an element given as None is omitted."""
    pixels = np.linspace(0, 4095, ROWS * COLUMNS).reshape(ROWS, COLUMNS).astype(np.uint16)
    dataset = dicom_of(pixels, **{**PATIENT, "BitsStored": 12, "PixelSpacing": [0.2, 0.4], **elements})
    dataset.save_as(path, enforce_file_format=True)
    return path


def localized(mask: np.ndarray | None, phrase: str = "right consolidation", **others: Any) -> Localization:
    """A localization with this mask and a heat of 1 inside it."""
    shape = (ROWS, COLUMNS) if mask is None else mask.shape
    heat = np.zeros(shape, np.float32) if mask is None else mask.astype(np.float32)
    return Localization(
        **{
            "phrase": phrase,
            "finding": "consolidation",
            "method": "gscorecam",
            "refined_by": "random-walker",
            "heat": heat,
            "mask": mask,
            "reason": None if mask is not None else "the map answers equally to any phrase",
            "specificity": 0.5,
            "threshold": 0.2,
            **others,
        }
    )


def block(top: int, left: int, shape: tuple[int, int] = (ROWS, COLUMNS)) -> np.ndarray:
    """A mask of 20 × 10 pixels."""
    mask = np.zeros(shape, np.bool_)
    mask[top : top + 20, left : left + 10] = True
    return mask
