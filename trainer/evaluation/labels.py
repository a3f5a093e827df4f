"""Labels of many items as arrays: the present leaf findings, and normality.

Metrics, galleries and classifiers use them; statuses other than present do not match.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, VOCABULARY, Statuses, is_normal, present_leaves

LEAVES = VOCABULARY.leaves
CLASSES = (*LEAVES, NO_FINDING)
"""The C classes of images: the leaf findings and normal."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of n items: `present` (n, F) bool over `LEAVES`, `normal` (n,) bool."""

    present: NDArray[np.bool_]
    normal: NDArray[np.bool_]

    @classmethod
    def of(cls, statuses: Iterable[Statuses]) -> "Labels":
        """The labels of items with these statuses."""
        rows = list(statuses)
        present = np.zeros((len(rows), len(LEAVES)), dtype=np.bool_)
        for row, item in enumerate(rows):
            found = present_leaves(item)
            present[row] = [leaf in found for leaf in LEAVES]
        return cls(present, np.array([is_normal(item) for item in rows], dtype=np.bool_))

    def __len__(self) -> int:
        return len(self.normal)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) bool: whether an item can match anything, that is, is normal or has a present leaf finding."""
        known: NDArray[np.bool_] = self.normal | self.present.any(axis=1)
        return known

    @property
    def classes(self) -> NDArray[np.int64]:
        """(n,) the class of each item, an index into `CLASSES`; −1 for none.

        An item is of a finding's class when that is its only present leaf and it is not normal, and of the
        class `no_finding` when it is normal and has no present leaf (a normal radiograph with a device has
        none).
        """
        single = (self.present.sum(axis=1) == 1) & ~self.normal
        bare = self.normal & ~self.present.any(axis=1)
        classes: NDArray[np.int64] = np.where(single, self.present.argmax(axis=1), -1)
        classes[bare] = len(LEAVES)
        return classes

    def take(self, index: NDArray[Any]) -> "Labels":
        """The labels of the chosen items (indices or mask)."""
        return Labels(self.present[index], self.normal[index])
