"""A package of an extra that is not installed: a sentence with the line that installs it."""

import pytest

from corpus.errors import NotInstalled
from corpus.extras import LOCALIZE, needs_extra


def test_a_missing_package_of_an_extra_is_named_with_the_line_that_installs_it() -> None:
    with (
        pytest.raises(NotInstalled, match=r"^the method m2ib needs torch.*'similarity-engine\[localize\]'$"),
        needs_extra("the method m2ib", LOCALIZE),
    ):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")


def test_a_missing_module_of_another_package_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError), needs_extra("the method m2ib", LOCALIZE):
        raise ModuleNotFoundError("No module named 'retrieval.absent'", name="retrieval.absent")


@pytest.mark.parametrize(("package", "extra"), [("torch", "train"), ("psycopg", "postgres")])
def test_each_package_has_its_own_extra_by_default(package: str, extra: str) -> None:
    line = rf"^`similarity train` needs {package}, .*: pip install 'similarity-engine\[{extra}\]'$"
    with pytest.raises(NotInstalled, match=line), needs_extra("`similarity train`"):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
