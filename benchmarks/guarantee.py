"""Coverage of the conformal guarantee, and how often a promise is made.

    python -m benchmarks.guarantee --data ../shared/data --encoder runs/real --phantom runs/phantom

One image of each subject is the query, as if it were new. A hundred times the subjects are split at random:
two thirds calibrate, and the others' answers of ten hits are checked. A promise is met if at least as many
of the ten as promised share the image's main finding; the nominal coverage is 90 %. Groups with fewer than
`FEWEST` promises over all splits are omitted. Real images first (ChestX-ray14 and covid-chestxray, with
Open-i reports in the index), then phantoms. The encoder of the real images was trained on most of these
subjects, those of the calibration and those of the queries: coverage holds among them, but new subjects may
get fewer promises.
"""

import argparse
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.machine import describe_machine
from corpus.records import Source
from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.reliability.conformal import (
    LEVEL,
    LabelledSearch,
    count_sharing,
    fit_guarantee,
    leaf_findings,
    prediction_features,
)
from retrieval.reliability.fit import search_own
from retrieval.reliability.own_images import OwnImage, own_images

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

SPLITS = 100
HITS = 10
FEWEST = 200
PHANTOMS = "phantom:1000@31"
"""None of them trained the phantoms' encoder, which is made by `similarity train --config
trainer/recipes/phantom.toml --corpus phantom:400@1 --out runs/phantom`."""


@dataclass(frozen=True)
class Trial:
    """A query image and its hits."""

    image: OwnImage
    searched: LabelledSearch

    def groups(self) -> Iterator[str]:
        """Yield the groups that its promise is counted in."""
        yield "all"
        yield f"hits agree on {prediction_features(self.searched.hits)[0]}"
        for finding in sorted(self.searched.own):
            yield f"image shows {finding}"
        yield f"sex {self.image.study.sex or 'unknown'}"
        yield f"view {self.image.view or 'unknown'}"


def run_trials(index: Index) -> dict[str, list[Trial]]:
    """Search with one image of each subject: target → trials."""
    own = own_images(index, new_only=False).one_each()
    images = [image for image in own if leaf_findings(image.study.findings)]
    found = search_own(index, images, lambda *_: None)
    return {
        target: [Trial(image, one) for image, one in zip(images, of, strict=True) if len(one.hits) >= HITS]
        for target, of in found.items()
    }


def check(trials: Sequence[Trial], target: str) -> None:
    """Print how often promises are made and met."""
    random = np.random.default_rng(0)
    made: dict[str, list[int]] = defaultdict(list)
    met: dict[str, list[bool]] = defaultdict(list)
    for _ in range(SPLITS):
        order = random.permutation(len(trials))
        size = 2 * len(trials) // 3
        calibrating = [trials[row].searched for row in order[:size]]
        guarantee = fit_guarantee({target: calibrating}, [HITS])
        if guarantee is None:
            print(f"{target}: {size} subjects are too few")
            return
        for row in order[size:]:
            one = trials[row]
            promised = guarantee.promised_for(target, one.searched.hits[:HITS]) or 0
            for group in one.groups():
                made[group].append(promised)
                if promised:
                    met[group].append(count_sharing(one.searched.own, one.searched.hits[:HITS]) >= promised)
    print(f"{target}: {len(trials)} subjects, {HITS} hits, nominal {LEVEL:.2f}")
    for group in sorted(made, key=lambda name: (name != "all", name)):
        if len(met[group]) >= FEWEST:
            mean = np.mean([promised for promised in made[group] if promised])
            share = len(met[group]) / len(made[group])
            promises = f"promised to {share:5.2f}, on average {mean:.1f}"
            print(f"  {group:36} coverage {np.mean(met[group]):.3f}   {promises}")


def measure(home: Path, sources: Sequence[Source], encoder: "Encoder", folder: str) -> None:
    """Index the sources in a home, if they are not there yet, and check every target."""
    with Index.open(home, read_only=False) as index:
        for source in sources:
            add_source(index, source, encoder, origin=source.name, folder=folder)
        index.use(encoder)
        trials = run_trials(index)
    for target, of in trials.items():
        check(of, target)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--encoder", default="runs/real")
    parser.add_argument("--phantom", default="runs/phantom")
    parser.add_argument("--homes", type=Path, help="folder of the two indexes")
    options = parser.parse_args()
    from trainer.runtime.encoder import (
        Encoder,  # here: a decode process reads this module, too, and needs no torch
    )

    folder = options.homes or Path(tempfile.mkdtemp())
    try:
        names = ("nih-chestxray14", "covid-chestxray", "openi")
        real = [open_source(f"{name}:{options.data / name}") for name in names]
        print("== real images", flush=True)
        measure(folder / "real", real, Encoder.load(options.encoder), options.encoder)
        print("== phantoms", flush=True)
        drawn = [open_source(PHANTOMS)]
        measure(folder / "phantom", drawn, Encoder.load(options.phantom), options.phantom)
    finally:
        if options.homes is None:
            shutil.rmtree(folder)
    print(f"machine: {describe_machine()}")


if __name__ == "__main__":
    main()
