"""The marks of the suite name modules that exist, and leave the unit tests in `make test-fast`."""

import pytest

from tests.conftest import SLOW_MODULES, TESTS


@pytest.mark.parametrize("pattern", SLOW_MODULES)
def test_a_pattern_of_slow_modules_matches_a_module(pattern: str) -> None:
    """Where this fails after a module was renamed: rename it in `tests/conftest.py`, too."""
    assert list(TESTS.glob(pattern))
