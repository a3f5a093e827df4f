"""A folder of DICOM files with a table of reports, as an archive exports them."""

import csv
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import similarity as sim

DX_IMAGE = "1.2.840.10008.5.1.4.1.1.1.1"
REPORTS = (
    "Small right pleural effusion. No pneumothorax.",
    "The lungs are clear. Heart size is normal.",
    "Left lower lobe consolidation.",
    "Mild cardiomegaly. No pleural effusion.",
)


def write_export(folder: Path) -> None:
    """Write `export/1.dcm` … `export/4.dcm` of phantoms and `reports.csv`, joined by accession number."""
    (folder / "export").mkdir()
    rows = []
    for number, report in enumerate(REPORTS, start=1):
        pixels = np.rint(sim.read_image(f"phantom://4/{number}") * 4095).astype(np.uint16)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = DX_IMAGE
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        elements = {
            "SOPClassUID": DX_IMAGE, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
            "StudyInstanceUID": f"1.2.3.{number}", "AccessionNumber": f"A{number}",
            "PatientID": f"P{number}", "PatientSex": "FM"[number % 2], "PatientAge": f"0{40 + number}Y",
            "StudyDate": f"2024010{number}", "Modality": "DX", "ViewPosition": "PA",
            "PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "PixelRepresentation": 0,
            "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11,
            "Rows": pixels.shape[0], "Columns": pixels.shape[1], "PixelSpacing": [1.4, 1.4],
        }  # fmt: skip
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / "export" / f"{number}.dcm", enforce_file_format=True)
        rows.append((f"A{number}", report))
    with (folder / "reports.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("accession", "report"), *rows])
