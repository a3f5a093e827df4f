"""The path of one text search through the code: files, functions, calls from file to file.

    python -m benchmarks.search_path --encoder runs/real
    python -m benchmarks.search_path --encoder runs/real --listing

Forty phantoms are indexed, one query warms the caches, and a second one is followed with `sys.setprofile`.
Only code of this project counts: files entered, distinct functions called (a comprehension belongs to its
function), the different calls from one file into another, and how often a call ran in another file than the
call before it. `--listing` prints the functions file by file, in the order of their first call.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.query.query import Query
from retrieval.search import search
from trainer.runtime.encoder import Encoder

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("corpus", "trainer", "indexer", "retrieval", "similarity")
SOURCE = "phantom:40@3"
WARM_UP = "large left pleural effusion"
TEXT = "small right pleural effusion without pneumothorax"


@dataclass(slots=True)
class Trace:
    """The calls of one search within this project.

    `functions`: file → names of the functions called in it, in the order of their first call.
    `crossings`: the different calls, caller and callee, that lead into another file.
    `file_changes`: how often a call ran in another file than the call before it.
    """

    functions: dict[str, dict[str, None]] = field(default_factory=dict)
    crossings: set[tuple[str, str]] = field(default_factory=set)
    file_changes: int = 0
    _current: str | None = None

    def record(self, frame: FrameType, event: str, _: object) -> None:
        """Record one event of `sys.setprofile`."""
        file = project_file(frame) if event == "call" else None
        if file is None:
            return
        name = function_name(frame)
        self.functions.setdefault(file, {}).setdefault(name)
        self.file_changes += self._current is not None and file != self._current
        self._current = file
        caller = frame.f_back
        while caller is not None and project_file(caller) is None:
            caller = caller.f_back  # through the standard library, or SQLAlchemy
        if caller is not None and (source := project_file(caller)) != file:
            self.crossings.add((f"{source}:{function_name(caller)}", f"{file}:{name}"))


def project_file(frame: FrameType) -> str | None:
    """Return the file of a frame relative to the project; None for other code."""
    try:
        file = Path(frame.f_code.co_filename).relative_to(ROOT)
    except ValueError:
        return None
    return str(file) if file.parts[0] in LAYERS else None


def function_name(frame: FrameType) -> str:
    """Return the function that a frame runs; for a comprehension or lambda the function around it."""
    return frame.f_code.co_qualname.split(".<locals>.<")[0]


def trace_search(index: Index, text: str) -> Trace:
    """Follow one text search for cases."""
    trace = Trace()
    query = Query(text=text)
    sys.setprofile(trace.record)
    try:
        search(index, query)
    finally:
        sys.setprofile(None)
    return trace


def main() -> None:
    """Print the three counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="runs/real")
    parser.add_argument("--listing", action="store_true", help="print every function, too")
    options = parser.parse_args()
    encoder = Encoder.load(options.encoder, "cpu")
    with (
        tempfile.TemporaryDirectory() as folder,
        Index.open(Path(folder) / "home", read_only=False) as index,
    ):
        add_source(index, open_source(SOURCE), encoder, origin=SOURCE, folder=options.encoder, workers=1)
        index.use(encoder)
        search(index, Query(text=WARM_UP))
        trace = trace_search(index, TEXT)
    if options.listing:
        for file, names in trace.functions.items():
            print(f"{file}: {', '.join(names)}")
    count = sum(map(len, trace.functions.values()))
    print(
        f"{len(trace.functions)} files, {count} functions, {len(trace.crossings)} different calls between "
        f"files, {trace.file_changes} changes of file"
    )


if __name__ == "__main__":
    main()
