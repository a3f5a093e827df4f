"""Runs `index add` in processes that are killed: imports once, then forks for every run.

Lines of JSON in: home, source, encoder, environment of its own, and where to be killed: `{"stage", "step"}`
by its own hand in the observer, or by this process's, `{"delay"}` seconds after `{"moments"}` moments of the
observer, at whatever instruction that is. Lines of JSON out: the signal that ended it, and how many moments
there were.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any

STEP = 4  # images
LATE = (
    "alembic.command",
    "indexer.backup",
    "indexer.vectors.edge.shards",
    "indexer.vectors.client",
    "indexer.vectors.server",
    "similarity.cli.backup",
    "similarity.cli.index",
)
"""What a run imports late is imported here, once."""


def main() -> None:
    prepare()
    from trainer.runtime.encoder import Encoder

    for line in sys.stdin:
        job = json.loads(line)
        ended, moments = run(job, Encoder.load(job["encoder"], "cpu"))
        sys.stdout.write(json.dumps({"signal": ended, "moments": moments}) + "\n")
        sys.stdout.flush()


def prepare() -> None:
    """Import what a run imports, load an encoder once, and commit every small step."""
    import torch

    from indexer.ingest import pending, pipeline
    from trainer.runtime.encoder import Encoder

    for late in LATE:
        importlib.import_module(late)
    torch.set_num_threads(1)  # no pool of threads that a fork would lose
    pipeline.STEP_IMAGES = STEP
    pending.COMMIT_SECONDS = 0.0  # commit every step
    load = Encoder.load

    @cache
    def load_once(folder: str) -> Encoder:
        return load(folder, "cpu")

    Encoder.load = lambda folder, device="cpu": load_once(str(folder))  # type: ignore[assignment]


def run(job: dict[str, Any], encoder: Any) -> tuple[int, int]:
    """Fork, index, kill; the signal that ended it (0 for none) and the moments that were seen."""
    heard, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        code = 1
        try:
            index_source(job, encoder, tell)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(tell)
    moments = 0
    while os.read(heard, 1):
        moments += 1
        if moments == job.get("moments"):
            time.sleep(job["delay"])
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(heard)
    code = os.waitstatus_to_exitcode(status)
    if code > 0:
        raise SystemExit("the run failed by itself")
    return -code, moments


def index_source(job: dict[str, Any], encoder: Any, tell: int) -> None:
    """One run; it kills itself at the stage and step that the job names."""
    from corpus.settings import settings
    from corpus.sources import open_source
    from indexer.index import Index
    from indexer.ingest.added import Added, Stage
    from indexer.ingest.pipeline import add_source

    seen = 0

    def observe(stage: Stage, _added: Added) -> None:
        nonlocal seen
        os.write(tell, b".")
        if stage == job.get("stage"):
            seen += 1
            if seen == job["step"]:
                os.kill(os.getpid(), signal.SIGKILL)

    os.environ.update(job.get("environment", {}))
    settings.cache_clear()
    with Index.open(Path(job["home"]), read_only=False) as index:
        source = open_source(job["source"])
        add_source(
            index,
            source,
            encoder,
            origin="x",
            folder=job["encoder"],
            patches=True,
            workers=0,
            observer=observe,
        )


if __name__ == "__main__":
    main()
