"""A package of an extra that is not installed: a sentence with the line that installs it."""

import pytest

from corpus.errors import EncoderError
from corpus.extras import needs_extra


def test_a_missing_package_of_an_extra_is_named_with_the_line_that_installs_it() -> None:
    with (
        pytest.raises(EncoderError, match=r"^the method m2ib needs torch.*'similarity-engine\[localize\]'$"),
        needs_extra("localize", "the method m2ib"),
    ):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")


def test_a_missing_module_of_another_package_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError), needs_extra("localize", "the method m2ib"):
        raise ModuleNotFoundError("No module named 'retrieval.absent'", name="retrieval.absent")
