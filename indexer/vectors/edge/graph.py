"""Building the search graph of an embedded collection on a copy, and swapping the copy in.

The engine's optimiser blocks the interpreter for minutes, so it runs in a child process, on a copy of the
flushed directory; the finished copy then takes the place of the original by renaming. Interrupted anywhere,
`finish_swap` restores a whole collection.
"""

import shutil
import subprocess
from pathlib import Path

from corpus.errors import IndexingError
from corpus.worker import command

_COPY, _DONE, _BEFORE = ".optimizing", ".optimized", ".before"


def optimize(folder: str) -> None:
    """Build the search graph of the shard in a folder; the child's work."""
    import qdrant_edge

    shard = qdrant_edge.EdgeShard.load(folder)
    shard.optimize()
    shard.flush()
    shard.close()


def optimized_copy(path: Path) -> Path:
    """Make an optimised copy of the flushed shard at `path`, which may be read meanwhile.

    Returns:
        Folder of the whole copy, for `swap_in`.

    Raises:
        IndexingError: the child failed; the shard is as it was.
    """
    copy, done = path.with_name(path.name + _COPY), path.with_name(path.name + _DONE)
    shutil.copytree(path, copy)
    child = subprocess.run(
        command("indexer.vectors.edge.graph:optimize", str(copy)), capture_output=True, text=True
    )
    if child.returncode != 0:
        shutil.rmtree(copy)
        last = (child.stderr.strip().splitlines() or [f"exit {child.returncode}"])[-1]
        raise IndexingError(f"the search graph of {path.name} could not be built: {last}")
    return copy.rename(done)


def swap_in(done: Path, path: Path) -> None:
    """Replace the closed shard at `path` by its optimised copy."""
    before = path.with_name(path.name + _BEFORE)
    path.rename(before)
    done.rename(path)
    shutil.rmtree(before)


def finish_swap(folder: Path) -> None:
    """Repair a folder of shards after an interrupted `optimized_copy` or `swap_in`."""
    for before in folder.glob(f"*{_BEFORE}"):
        original = before.with_name(before.name.removesuffix(_BEFORE))
        if not original.exists():
            before.rename(original)
    for suffix in (_COPY, _DONE, _BEFORE):
        for left in folder.glob(f"*{suffix}"):
            shutil.rmtree(left)
