"""Out-of-distribution detection: how often foreign images are refused, and how often radiographs are.

    python -m benchmarks.ood --data ../shared/data --encoder runs/real

The detector is fitted on radiographs (ChestX-ray14 and covid-chestxray) of training and validation
subjects. It is tested on the radiographs of held-out subjects by view, each also inverted, on breast
ultrasound (BUSI), brain MRI and photographs. Then it is fitted on half of the ultrasound images and tested
on the rest.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from corpus.images.reader import read_image
from corpus.sources import open_source
from corpus.splits import split_of
from retrieval.reliability.ood import (
    MOST_IMAGES,
    Numbers,
    OutOfDistributionDetector,
    backbone_features,
    fit_detector,
)
from trainer.runtime.encoder import Encoder

_TOGETHER = 32


@dataclass(frozen=True)
class ListedImage:
    """An image, its subject, the row of the table it counts in, and whether it is held out."""

    location: str
    subject: str
    kind: str
    held_out: bool


def radiographs(data: Path) -> list[ListedImage]:
    """Return every radiograph of both sets, in random order."""
    listed_images = []
    for source in ("nih-chestxray14", "covid-chestxray"):
        for study in open_source(f"{source}:{data / source}").studies(lambda _: None):
            held_out = split_of(study.subject_id) == "test"
            for image in study.images:
                kind = {"lateral": "lateral", "ap_supine": "supine"}.get(str(image.view), "frontal")
                listed_images.append(
                    ListedImage(image.location, study.subject_id, f"{kind}, {source}", held_out)
                )
    order = np.random.default_rng(0).permutation(len(listed_images))
    return [listed_images[row] for row in order]


def others(folder: Path, kind: str) -> list[ListedImage]:
    """Return every image of a folder, each of another subject; half of them held out."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    return [
        ListedImage(str(path), path.name, kind.format(path.name.partition("_")[0]), n % 2 == 0)
        for n, path in enumerate(paths)
    ]


def features_of(encoder: Encoder, listed_images: Sequence[ListedImage]) -> tuple[Numbers, Numbers]:
    """Return the backbone features of images, and of the inverted images."""
    batches: list[tuple[Numbers, Numbers]] = []
    for start in range(0, len(listed_images), _TOGETHER):
        batches.append(
            backbone_features(
                encoder, [read_image(entry.location) for entry in listed_images[start : start + _TOGETHER]]
            )
        )
    upright, inverted = (np.concatenate(side) for side in zip(*batches, strict=True))
    return upright, inverted


def report(
    detector: OutOfDistributionDetector, title: str, groups: Mapping[str, tuple[Numbers, Numbers]]
) -> None:
    """Print the share of each group that is refused, and 2nd, 50th, 98th percentile of its distances.

    An image and its inverse have one distance, so the held-out images count for their inverses, too.
    """
    print(f"{title}; limit {detector.limit:.2f}")
    for name, (upright, inverted) in groups.items():
        distances = np.minimum(detector.distance(upright), detector.distance(inverted))
        refused = (distances > detector.limit).sum()
        low, middle, high = np.quantile(distances / detector.limit, (0.02, 0.5, 0.98))
        print(f"  {name:28} {refused:4d} of {len(upright):4d} refused ({refused / len(upright):.3f})", end="")
        print(f"   distance/limit {low:.2f} {middle:.2f} {high:.2f}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--encoder", default="runs/real")
    options = parser.parse_args()
    encoder = Encoder.load(options.encoder)
    listed_images = radiographs(options.data)
    fitted_on = [entry for entry in listed_images if not entry.held_out][:MOST_IMAGES]
    tested = [entry for entry in listed_images if entry.held_out]
    busi = others(options.data / "busi" / "images", "ultrasound")
    foreign = others(options.data / "not-radiographs", "{}")
    features = features_of(encoder, fitted_on)
    by_kind = {
        kind: features_of(encoder, [entry for entry in tested if entry.kind == kind])
        for kind in sorted({entry.kind for entry in tested})
    }
    ultrasound, odd = features_of(encoder, busi), features_of(encoder, foreign)
    detector = fit_detector(*features, [entry.subject for entry in fitted_on])
    if detector is None:
        raise SystemExit("too few subjects")
    whole = tuple(np.concatenate([side[n] for side in by_kind.values()]) for n in (0, 1))
    groups = {
        **by_kind,
        "all held-out radiographs": (whole[0], whole[1]),
        "ultrasound": ultrasound,
        "MRI and photographs": odd,
    }
    report(detector, f"an index of {len(fitted_on)} radiographs of {detector.subjects} subjects", groups)
    held_out = np.array([entry.held_out for entry in busi])
    subjects = [entry.subject for entry in busi if not entry.held_out]
    second = fit_detector(ultrasound[0][~held_out], ultrasound[1][~held_out], subjects)
    if second is not None:
        groups = {
            "ultrasound, held out": (ultrasound[0][held_out], ultrasound[1][held_out]),
            "radiographs": (whole[0], whole[1]),
            "MRI and photographs": odd,
        }
        report(second, f"an index of {second.subjects} ultrasound images", groups)
    print(f"machine: {describe_machine()}")


if __name__ == "__main__":
    main()
