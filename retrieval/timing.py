"""Wall time of the steps of a search."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

Step = Literal["decode", "encode", "search", "rank", "catalog"]


@dataclass(frozen=True, slots=True)
class Took:
    """Wall time of each step in milliseconds. Queries that are encoded together share that time evenly."""

    decode: float = 0.0
    encode: float = 0.0
    search: float = 0.0
    rank: float = 0.0
    catalog: float = 0.0

    @property
    def total(self) -> float:
        """All steps together."""
        return self.decode + self.encode + self.search + self.rank + self.catalog

    def as_json(self) -> dict[str, float]:
        """The contract's form, to a hundredth of a millisecond."""
        return {
            name: round(getattr(self, name), 2)
            for name in ("decode", "encode", "search", "rank", "catalog", "total")
        }


class Stopwatch:
    """Adds up what the steps of one query take.

    Attributes:
        took: the steps measured so far.
    """

    def __init__(self, took: Took | None = None) -> None:
        """Start from `took`, else from nothing."""
        self.took = took or Took()

    @contextmanager
    def measure(self, step: Step) -> Iterator[None]:
        """Add the time that the block takes to a step, unless it raises."""
        began = perf_counter()
        yield
        self.add(step, (perf_counter() - began) * 1000)

    def add(self, step: Step, milliseconds: float) -> None:
        """Add to a step."""
        self.took = replace(self.took, **{step: getattr(self.took, step) + milliseconds})
