"""Building the search graph of an embedded collection beside it, and putting it in its place.

The engine's optimiser holds the interpreter for minutes, so it runs in a child process, on a copy of the
flushed directory; the finished copy then takes the place of the original by renaming. Interrupted anywhere,
`finish_swap` brings back a whole collection.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from corpus.errors import IndexingError

_COPY, _DONE, _BEFORE = ".optimizing", ".optimized", ".before"

_CHILD = """
import sys, qdrant_edge
shard = qdrant_edge.EdgeShard.load(sys.argv[1])
shard.optimize()
shard.flush()
shard.close()
"""


def optimized_copy(path: Path) -> None:
    """Replace the closed, flushed shard at `path` by an optimised one.

    Raises:
        IndexingError: the child failed; the shard is as it was.
    """
    copy, done, before = (path.with_name(path.name + suffix) for suffix in (_COPY, _DONE, _BEFORE))
    shutil.copytree(path, copy)
    child = subprocess.run([sys.executable, "-c", _CHILD, str(copy)], capture_output=True, text=True)
    if child.returncode != 0:
        shutil.rmtree(copy)
        last = (child.stderr.strip().splitlines() or [f"exit {child.returncode}"])[-1]
        raise IndexingError(f"the search graph of {path.name} could not be built: {last}")
    copy.rename(done)
    path.rename(before)
    done.rename(path)
    shutil.rmtree(before)


def finish_swap(folder: Path) -> None:
    """Make whole what an interrupted `optimized_copy` left in a folder of shards."""
    for before in folder.glob(f"*{_BEFORE}"):
        original = before.with_name(before.name.removesuffix(_BEFORE))
        if not original.exists():
            before.rename(original)
    for suffix in (_COPY, _DONE, _BEFORE):
        for left in folder.glob(f"*{suffix}"):
            shutil.rmtree(left)
