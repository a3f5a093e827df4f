"""Whether promises are kept as often as they say, and how often one is made.

    python -m benchmarks.guarantee --data ../shared/data --encoder runs/real --phantom runs/phantom

One film of each person is searched for as if it were new. A hundred times the people are parted at random:
two thirds calibrate, the others' answers of ten hits are checked. A promise counts as kept where so many of
the ten share the film's main finding; the nominal level is 90 %. Groups with fewer than `FEWEST` promises
over all partings are left out. Real films first (ChestX-ray14 and covid-chestxray, with Open-i reports in
the index), then phantoms. The encoder of the real films learned from most of these people, those who
calibrate and those who are asked alike: the level holds among them, but for new people fewer promises could
be made.
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
from retrieval.reliability.conformal import LEVEL, Searched, calibrate, look, marks, shared
from retrieval.reliability.fit import search_own
from retrieval.reliability.own_images import Film, own_films

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

PARTINGS = 100
HITS = 10
FEWEST = 200
PHANTOMS = "phantom:1000@31"
"""None of them taught the phantoms' encoder, which is made by `similarity train --config
trainer/recipes/phantom.toml --corpus phantom:400@1 --out runs/phantom`."""


@dataclass(frozen=True)
class Asked:
    """A film and what came back for it."""

    film: Film
    searched: Searched

    def groups(self) -> Iterator[str]:
        """Under what its promise is counted."""
        yield "all"
        yield f"hits agree on {look(self.searched.hits)[0]}"
        for mark in sorted(self.searched.own):
            yield f"film shows {mark}"
        yield f"sex {self.film.study.sex or 'unknown'}"
        yield f"view {self.film.view or 'unknown'}"


def ask(index: Index) -> dict[str, list[Asked]]:
    """Search for one film of each new person: target → what came back."""
    films = [film for film in own_films(index, new_only=False).one_each() if marks(film.study.findings)]
    found = search_own(index, films, lambda *_: None)
    return {
        target: [Asked(film, one) for film, one in zip(films, of, strict=True) if len(one.hits) >= HITS]
        for target, of in found.items()
    }


def check(asked: Sequence[Asked], target: str) -> None:
    """Print how often promises were made and kept."""
    random = np.random.default_rng(0)
    made: dict[str, list[int]] = defaultdict(list)
    kept: dict[str, list[bool]] = defaultdict(list)
    for _ in range(PARTINGS):
        order = random.permutation(len(asked))
        cut = 2 * len(asked) // 3
        teaching = [asked[place].searched for place in order[:cut]]
        guarantee = calibrate({target: teaching}, [HITS])
        if guarantee is None:
            print(f"{target}: {cut} people are too few")
            return
        for place in order[cut:]:
            one = asked[place]
            promised = guarantee.promised_marks(target, one.searched.hits[:HITS]) or 0
            for group in one.groups():
                made[group].append(promised)
                if promised:
                    kept[group].append(shared(one.searched.own, one.searched.hits[:HITS]) >= promised)
    print(f"{target}: {len(asked)} people, {HITS} hits, nominal {LEVEL:.2f}")
    for group in sorted(made, key=lambda name: (name != "all", name)):
        if len(kept[group]) >= FEWEST:
            mean = np.mean([promised for promised in made[group] if promised])
            share = len(kept[group]) / len(made[group])
            told = f"promised to {share:5.2f}, on average {mean:.1f}"
            print(f"  {group:36} kept {np.mean(kept[group]):.3f}   {told}")


def measure(home: Path, sources: Sequence[Source], encoder: "Encoder", folder: str) -> None:
    """Index the sources in a home, if they are not there yet, and check every target."""
    with Index.open(home, read_only=False) as index:
        for source in sources:
            add_source(index, source, encoder, origin=source.name, folder=folder)
        index.use(encoder)
        asked = ask(index)
    for target, of in asked.items():
        check(of, target)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--encoder", default="runs/real")
    parser.add_argument("--phantom", default="runs/phantom")
    parser.add_argument("--homes", type=Path, help="a folder in which the two indexes are kept")
    options = parser.parse_args()
    from trainer.runtime.encoder import (
        Encoder,  # here: a decode process reads this module, too, and needs no torch
    )

    folder = options.homes or Path(tempfile.mkdtemp())
    try:
        names = ("nih-chestxray14", "covid-chestxray", "openi")
        real = [open_source(f"{name}:{options.data / name}") for name in names]
        print("== real films", flush=True)
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
