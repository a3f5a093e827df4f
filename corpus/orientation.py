"""How a stored image is turned and mirrored to be shown, and how what was found in it is turned back."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Hanging:
    """One of the eight ways to turn and mirror an image, from its stored to its shown geometry.

    `transposed`: rows become columns, before anything is reversed. `up_down`: the order of the rows is
    reversed. `left_right`: the order of the columns is.
    """

    transposed: bool = False
    up_down: bool = False
    left_right: bool = False

    def apply(self, plane: NDArray[_Value]) -> NDArray[_Value]:
        """Return a stored (height, width) plane as it is shown; a turn by 90° swaps the two."""
        turned = plane.T if self.transposed else plane
        turned = turned[::-1] if self.up_down else turned
        return turned[:, ::-1] if self.left_right else turned

    def undo(self, plane: NDArray[_Value]) -> NDArray[_Value]:
        """Return a shown (height, width) plane in the stored geometry: the inverse of `apply`."""
        turned = plane[:, ::-1] if self.left_right else plane
        turned = turned[::-1] if self.up_down else turned
        return turned.T if self.transposed else turned


AS_STORED = Hanging()
