"""Milliseconds of one core from a full-size radiograph's file to its hash and an encoder's square.

    python -m benchmarks.decode --data ../shared/data

Beside the plain way, in the same process and in turn: pydicom's modality and VOI transforms pixel by pixel,
float64, the hash of every pixel, and Pillow's resizing of float32. The process has the variables of a decode
process, so the plain way, too, uses memory again.
"""

import hashlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from corpus.geometry import Framing
from corpus.images.decoder import ENVIRONMENT
from corpus.images.reader import frame_image
from corpus.worker import Answer, WorkerProcess

HEIGHT, WIDTH, BITS = 2500, 2048, 12
SIZE = 224
DX_IMAGE = "1.2.840.10008.5.1.4.1.1.1.1"

Framed = tuple[NDArray[np.float32], str]
"""The square, and the hash."""


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of real data."
)
@click.option("--rounds", default=15, show_default=True, help="Of each way, in turn.")
def main(data: Path, rounds: int) -> None:
    """Measure and print."""
    table = Table(title=f"{HEIGHT} × {WIDTH} to {SIZE} × {SIZE}: ms of one core, p50 of {rounds}")
    for column in ("file", "plain", "ours", "ratio", "largest difference"):
        table.add_column(column, justify="right")
    original = sorted((data / "nih-chestxray14" / "images").glob("*.png"))[0]
    with tempfile.TemporaryDirectory() as folder:
        worker = WorkerProcess("benchmarks.decode:work", {"rounds": rounds}, ENVIRONMENT)
        try:
            for title, path in write_files(original, Path(folder)).items():
                times, _ = worker.exchange({"path": str(path)})
                if not times["same"]:
                    raise SystemExit(f"the two ways give {title} different hashes")
                plain, ours = times["plain"], times["ours"]
                table.add_row(
                    title, f"{plain:.1f}", f"{ours:.1f}", f"{plain / ours:.1f}", f"{times['difference']:.1e}"
                )
        finally:
            worker.end()
    Console().print(table)
    Console().print(describe_machine())


def write_files(original: Path, folder: Path) -> dict[str, Path]:
    """Write full-size files of a small radiograph, with noise; title → file."""
    with Image.open(original) as small:
        grey = np.asarray(small.convert("L").resize((WIDTH, HEIGHT)), np.float32) / 255
    grey += np.random.default_rng(0).normal(0, 0.004, grey.shape)
    values = np.clip(np.rint(grey * (1 << BITS)), 0, (1 << BITS) - 1).astype(np.uint16)
    window = {"WindowCenter": 2048, "WindowWidth": 3000}
    datasets = {
        "DX, uncompressed, window": dataset_of(values, **window),
        "DX, uncompressed, VOI LUT": dataset_of(values, VOILUTSequence=[_sigmoid()]),
        "DX, RLE, window": dataset_of(values, **window),
        "DX, JPEG 2000, window": dataset_of(values, **window),
    }
    datasets["DX, RLE, window"].compress(RLELossless, encoding_plugin="pylibjpeg")
    datasets["DX, JPEG 2000, window"].compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    files = {}
    for number, (title, dataset) in enumerate(datasets.items()):
        files[title] = folder / f"{number}.dcm"
        dataset.save_as(files[title], enforce_file_format=True)
    eight_bits = Image.fromarray((values >> BITS - 8).astype(np.uint8))
    for title, image in {"JPEG, grey": eight_bits, "JPEG, colour": eight_bits.convert("RGB")}.items():
        files[title] = folder / f"{image.mode}.jpg"
        image.save(files[title], quality=90)
    return files


def dataset_of(values: NDArray[np.uint16], **elements: Any) -> Dataset:
    """Return a digital radiograph of stored values."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(DX_IMAGE)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    elements = {
        "SOPClassUID": DX_IMAGE,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "DX",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "BitsAllocated": 16,
        "BitsStored": BITS,
        "HighBit": BITS - 1,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "PixelData": values.tobytes(),
    } | elements
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def _sigmoid() -> Dataset:
    white = (1 << BITS) - 1
    entries = np.rint(white / (1 + np.exp(-(np.arange(white + 1) - 2048) / 600)))
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [white + 1, 0, BITS])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def plainly(path: str, framing: Framing) -> Framed:
    """Read a file the plain way."""
    content = Path(path).read_bytes()
    if path.endswith(".jpg"):
        with Image.open(io.BytesIO(content)) as image:
            grey = np.asarray(image.convert("L"), np.float64) / 255
    else:
        dataset = dcmread(io.BytesIO(content))
        modality = apply_modality_lut(pixel_array(dataset), dataset)
        voi = apply_voi_lut(modality.astype(np.uint16), dataset).astype(np.float64)
        grey = np.clip(voi / ((1 << BITS) - 1), 0.0, 1.0)
    pixels = grey.astype(np.float32)
    steps = np.rint(pixels * np.float32(65535)).astype("<u2")
    if not (steps % 257).any():
        steps = (steps // 257).astype(np.uint8)
    height, width = steps.shape
    digest = hashlib.sha256(f"grey{8 * steps.itemsize} {height}x{width}\n".encode() + steps.tobytes())
    part = framing.placement(height, width)
    small = Image.fromarray(pixels).resize((part.width, part.height), Image.Resampling.BICUBIC)
    square = np.zeros((framing.size, framing.size), np.float32)
    square[part.top : part.top + part.height, part.left : part.left + part.width] = np.clip(
        np.asarray(small), 0, 1
    )
    return square, digest.hexdigest()


def ours(path: str, framing: Framing) -> Framed:
    """Read a file as `index add` does."""
    image = frame_image(path, framing)
    return image.framed, image.content


def work(setup: Mapping[str, Any]) -> Answer:
    """Measure both ways on the files that are sent, for `corpus.worker`."""
    framing = Framing(SIZE)

    def measure(task: dict[str, Any], _: object) -> tuple[dict[str, Any], bytes]:
        path = task["path"]
        (square, digest), (framed, content) = plainly(path, framing), ours(path, framing)
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(setup["rounds"]):
            for way, function in (("plain", plainly), ("ours", ours)):
                times[way].append(_seconds(function, path, framing))
        medians = {way: 1000 * statistics.median(seconds) for way, seconds in times.items()}
        difference = float(np.abs(square - framed).max())
        return {**medians, "same": digest == content, "difference": difference}, b""

    return measure


def _seconds(function: Callable[[str, Framing], Framed], path: str, framing: Framing) -> float:
    start = time.process_time()
    function(path, framing)
    return time.process_time() - start


if __name__ == "__main__":
    main()
