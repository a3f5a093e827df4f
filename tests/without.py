"""Runs the command line in a process that has none of the modules that only Unix has.

`python -m tests.without '[[WORD, …], …]'`: one `similarity WORD…` after the other where they cannot be
imported by us, nor by what locks for us. Others keep them: on a system without, they have branches of their
own.
"""

import builtins
import json
import socket
import sys
from types import SimpleNamespace
from typing import Any

UNIX_ONLY = frozenset({"fcntl", "grp", "pwd", "resource", "termios"})
_US = ("corpus", "trainer", "indexer", "retrieval", "migrations", "filelock")


def block() -> None:
    """Have imports of them fail from now on, and sockets in the file system be unknown to the owner."""
    real = builtins.__import__

    def imported(name: str, scope: Any = None, *rest: Any, **named: Any) -> Any:
        asking = str((scope or {}).get("__name__", "")).partition(".")[0]
        if name in UNIX_ONLY and asking in _US:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, scope, *rest, **named)

    builtins.__import__ = imported
    import indexer.owner

    known = {name: value for name, value in vars(socket).items() if name != "AF_UNIX"}
    indexer.owner.socket = SimpleNamespace(**known)  # type: ignore[attr-defined, assignment]


if __name__ == "__main__":
    block()
    from similarity.cli.main import cli

    for words in json.loads(sys.argv[1]):
        cli.main(words, standalone_mode=False)
