"""Commands on an empty index."""

import pytest

from tests.end_to_end.conftest import Run


@pytest.mark.parametrize("query", [("--text", "effusion"), ("--case", "openi:1"), ("--batch", "-")])
def test_a_search_of_an_empty_index_is_one_clear_line(run: Run, query: tuple[str, ...]) -> None:
    ran = run("search", *query, exits=1, stdin='{"text": "effusion"}\n')
    assert ran.out == ""
    assert "is empty" in ran.err
    assert "similarity index add" in ran.err
    assert len(ran.err.strip().splitlines()) == 1
