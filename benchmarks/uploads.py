"""Ten thousand damaged uploads: answers, time and memory.

    python -m benchmarks.uploads [--count N]

Bytes of PNG, JPEG and DICOM images are deleted, inserted and changed, few in each image and some in the
header. At least a fifth stay readable, so that the decoders are tested and not only the check of the first
bytes.
"""

import argparse
import io
import tempfile
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from benchmarks.machine import describe_machine
from corpus.images.reader import read_image

_REPORTS = 5  # rows of the table


@lru_cache(maxsize=1)
def seeds() -> tuple[bytes, ...]:
    """Return one image in four formats."""
    pixels = read_image("phantom://6/0")
    return (
        *(_file(pixels, kind, depth) for kind, depth in (("PNG", 8), ("PNG", 16), ("JPEG", 8))),
        _dicom(pixels),
    )


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a copy with a few bytes changed, deleted or doubled."""
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        reach = len(damaged) if rng.random() < 0.8 else min(len(damaged), 256)
        at = int(rng.integers(reach))
        how = rng.random()
        if how < 0.7:
            damaged[at] = int(rng.integers(256))
        elif how < 0.85:
            del damaged[at : at + int(rng.integers(1, 64))]
        else:
            damaged[at:at] = damaged[at : at + int(rng.integers(1, 64))]
        if not damaged:
            return b"\0"
    return bytes(damaged)


def _file(pixels: np.ndarray, kind: str, depth: int) -> bytes:
    steps = np.rint(pixels * (2**depth - 1)).astype(np.uint16 if depth == 16 else np.uint8)
    written = io.BytesIO()
    Image.fromarray(steps).save(written, kind)
    return written.getvalue()


def _dicom(pixels: np.ndarray) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "DX", "MONOCHROME2", 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.rint(pixels * 4095).astype(np.uint16).tobytes()
    written = io.BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()


def main() -> None:
    """Send them to a service in this process, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--data", help="Not used: the images are drawn.")
    options = parser.parse_args()
    from fastapi.testclient import TestClient

    from retrieval.service.access import Role
    from retrieval.service.app import create_app
    from retrieval.service.state import State

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        state = State.open(Path(folder) / "home")
        _, token = state.tokens.create(Role.READER, "benchmark")
        with TestClient(create_app(state), raise_server_exceptions=False) as client:
            client.headers["Authorization"] = f"Bearer {token}"
            state.limit = type(state.limit)(10**9)
            print("| uploads | read | refused | other | slowest s | service MB | decoders MB |")
            print("|---|---|---|---|---|---|---|")
            counts: Counter[str] = Counter()
            slowest = 0.0
            for number in range(1, options.count + 1):
                content = mutated(seeds()[number % len(seeds())], rng)
                began = time.perf_counter()
                answer = client.post("/v1/previews", files={"image": ("f", content, "image/png")})
                slowest = max(slowest, time.perf_counter() - began)
                counts[{200: "read", 422: "refused"}.get(answer.status_code, "other")] += 1
                if number % max(1, options.count // _REPORTS) == 0:
                    decoders = sum(map(_megabytes, state.image_pool.process_ids()))
                    print(
                        f"| {number:,} | {counts['read']:,} | {counts['refused']:,} | {counts['other']} "
                        f"| {slowest:.2f} | {_megabytes('self'):.0f} | {decoders:.0f} |"
                    )
        state.close()
    print(f"\n{describe_machine()}")


def _megabytes(process: int | str) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()
