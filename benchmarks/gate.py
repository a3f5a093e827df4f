"""Whether what is no picture of the index's kind is refused, and what is, is not.

    python -m benchmarks.gate --data ../shared/data --encoder runs/real

The gate learns from radiographs (ChestX-ray14 and covid-chestxray) of people who are not left out, and is
asked about the radiographs of left-out people by view, each also inverted; about breast ultrasound (BUSI),
brain MRI and photographs. Then it learns from half of the ultrasound and is asked about the rest.
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
from retrieval.reliability.ood import MOST_PICTURES, Gate, Numbers, fit_gate, look
from trainer.runtime.encoder import Encoder

_TOGETHER = 32


@dataclass(frozen=True)
class Film:
    """A picture, whose it is, and how it is to be listed."""

    location: str
    person: str
    kind: str
    left_out: bool


def radiographs(data: Path) -> list[Film]:
    """Every radiograph of both sets, in an order without meaning."""
    films = []
    for source in ("nih-chestxray14", "covid-chestxray"):
        for study in open_source(f"{source}:{data / source}").studies(lambda _: None):
            left_out = split_of(study.subject_id) == "test"
            for image in study.images:
                kind = {"lateral": "lateral", "ap_supine": "supine"}.get(str(image.view), "frontal")
                films.append(Film(image.location, study.subject_id, f"{kind}, {source}", left_out))
    order = np.random.default_rng(0).permutation(len(films))
    return [films[place] for place in order]


def others(folder: Path, kind: str) -> list[Film]:
    """Every picture of a folder, each of somebody else; half of them left out."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    return [
        Film(str(path), path.name, kind.format(path.name.partition("_")[0]), n % 2 == 0)
        for n, path in enumerate(paths)
    ]


def see(encoder: Encoder, films: Sequence[Film]) -> tuple[Numbers, Numbers]:
    """Their points, and inverted."""
    sides: list[tuple[Numbers, Numbers]] = []
    for start in range(0, len(films), _TOGETHER):
        sides.append(look(encoder, [read_image(film.location) for film in films[start : start + _TOGETHER]]))
    film, inverted = (np.concatenate(side) for side in zip(*sides, strict=True))
    return film, inverted


def report(gate: Gate, title: str, groups: Mapping[str, tuple[Numbers, Numbers]]) -> None:
    """Print the share of each group that is refused, and 2nd, 50th, 98th percentile of its distances.

    A picture and its inverse have one distance, so the left-out films count for their inverses, too.
    """
    print(f"{title}; limit {gate.limit:.2f}")
    for name, (film, inverted) in groups.items():
        distances = np.minimum(gate.distance(film), gate.distance(inverted))
        refused = (distances > gate.limit).sum()
        low, middle, high = np.quantile(distances / gate.limit, (0.02, 0.5, 0.98))
        print(f"  {name:28} {refused:4d} of {len(film):4d} refused ({refused / len(film):.3f})", end="")
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
    films = radiographs(options.data)
    teaching = [film for film in films if not film.left_out][:MOST_PICTURES]
    asked = [film for film in films if film.left_out]
    busi = others(options.data / "busi" / "images", "ultrasound")
    foreign = others(options.data / "not-radiographs", "{}")
    taught = see(encoder, teaching)
    seen = {
        kind: see(encoder, [film for film in asked if film.kind == kind])
        for kind in sorted({film.kind for film in asked})
    }
    ultrasound, odd = see(encoder, busi), see(encoder, foreign)
    gate = fit_gate(*taught, [film.person for film in teaching])
    if gate is None:
        raise SystemExit("too few people")
    whole = tuple(np.concatenate([side[n] for side in seen.values()]) for n in (0, 1))
    groups = {
        **seen,
        "all left-out radiographs": (whole[0], whole[1]),
        "ultrasound": ultrasound,
        "MRI and photographs": odd,
    }
    report(gate, f"an index of {len(teaching)} radiographs of {gate.people} people", groups)
    left_out = np.array([film.left_out for film in busi])
    kept = [film.person for film in busi if not film.left_out]
    second = fit_gate(ultrasound[0][~left_out], ultrasound[1][~left_out], kept)
    if second is not None:
        told = {
            "ultrasound left out": (ultrasound[0][left_out], ultrasound[1][left_out]),
            "radiographs": (whole[0], whole[1]),
            "MRI and photographs": odd,
        }
        report(second, f"an index of {second.people} ultrasound pictures", told)
    print(f"machine: {describe_machine()}")


if __name__ == "__main__":
    main()
