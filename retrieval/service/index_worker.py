"""The index worker: a process that computes on the index for the service, by calls that are pickled.

It opens the index as a command does, through the service that owns it. Both ends are this program, and
uploads were turned into pixels by a decode worker before.
"""

import pickle
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpus.worker import Answer
from indexer.index import Index
from retrieval.service import telemetry


def work(setup: Mapping[str, Any]) -> Answer:
    """Prepare the process and return what answers a task.

    Args:
        setup: `home`, the folder of the home that the process opens.

    A task's body is (function, args, kwargs), pickled; the function's first argument is the index. The
    answer's body is (True, its result) or (False, its exception), pickled.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    telemetry.configure_logging()
    opened: list[Index] = []

    def answer(_task: Mapping[str, Any], body: bytearray) -> tuple[Mapping[str, Any], bytes]:
        call, args, kwargs = pickle.loads(body)
        try:
            if not opened:
                opened.append(Index.open(Path(setup["home"])))
            outcome = True, call(opened[0], *args, **kwargs)
        except Exception as error:  # raised again where the call was made
            outcome = False, error
        return {}, pickle.dumps(outcome)

    return answer


def load(index: Index) -> None:
    """Load the active version's encoder, so that the first call is no slower."""
    index.encoder  # noqa: B018
