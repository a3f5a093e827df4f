"""No test is decided by the clock: a busy machine takes its time and is not wrong."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CLOCKS = {"sleep", "monotonic", "perf_counter", "wait_for_timeout"}  # a processor's time is no clock's
ALLOWED = {
    "indexer/killing.py",  # what it draws is the moment to kill at, whatever that is
    "indexer/machines.py",  # it gives the product a clock that a test puts forward
}


@pytest.mark.parametrize(
    "file", sorted(TESTS.rglob("*.py")), ids=lambda file: file.relative_to(TESTS).as_posix()
)
def test_nothing_sleeps_measures_time_or_waits_for_a_number_of_its_own(file: Path) -> None:
    found = [fault for node in ast.walk(ast.parse(file.read_text())) if (fault := _fault(node))]
    assert file.relative_to(TESTS).as_posix() in ALLOWED or not found, found


def _fault(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute) and node.attr in CLOCKS and _is_module(node):
        return f"line {node.lineno}: {node.attr} (wait by `tests.waiting.eventually`)"
    if isinstance(node, ast.ImportFrom) and node.module == "time":
        return f"line {node.lineno}: import the module, so that its use is seen"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        timeout = next((word.value for word in node.keywords if word.arg == "timeout"), None)
        if timeout is None and node.func.attr in {"result", "join", "wait"} and len(node.args) == 1:
            timeout = node.args[0]
        if isinstance(timeout, ast.Constant) and isinstance(timeout.value, int | float):
            return f"line {node.lineno}: waits {timeout.value} (take `tests.waiting.DEADLINE_SECONDS`)"
        if node.func.attr == "Timer":
            return f"line {node.lineno}: a timer"
    return None


def _is_module(node: ast.Attribute) -> bool:
    """Whether it is the clock of a module or page, no attribute of a test's own."""
    return isinstance(node.value, ast.Name) and node.value.id in ("time", "page")


@pytest.mark.parametrize(
    "wrong",
    [
        "time.sleep(1)", "assert time.monotonic() - began < 2", "page.wait_for_timeout(200)",
        "future.result(timeout=60)", "thread.join(20)", "threading.Timer(0.3, kill)",
        "from time import sleep", "subprocess.run(x, timeout=300)",
    ],
)  # fmt: skip
def test_each_way_to_depend_on_the_clock_is_found(wrong: str) -> None:
    assert any(_fault(node) for node in ast.walk(ast.parse(wrong)))
