"""The key of an index: its fingerprint, its exported text, and the command that gives it.

No message, log or `repr` has a key, nor a part of an exported text: they are compared, never shown.
"""

import base64
import hashlib
import hmac
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from contextlib import suppress

from corpus.errors import HomeError
from corpus.files import quoted

KEY_BYTES = 32
COMMAND_SETTING = "SIMILARITY_KEY_COMMAND"
COMMAND_SECONDS = 30.0
"""How long the command may take that gives the key."""

KEY_TEXT_BYTES = 4096
"""Bytes of an exported text that are read at most: its line has 70, the rest is white space."""

_FINGERPRINT_DIGITS = 16  # of 64 hex
_PREFIX = "similarity-key-1"
_ANY_VERSION = re.compile(r"similarity-key-\d+:")
_TEXT = re.compile(rf"{_PREFIX}:(?P<key>[A-Za-z0-9_-]{{43}}):[0-9a-f]{{8}}")

_keys: dict[str, bytes] = {}  # by command line
_mutex = threading.Lock()


def key_fingerprint(key: bytes) -> str:
    """Return the 16 hex digits that identify a key and reveal nothing of it."""
    return hmac.digest(key, b"similarity key fingerprint", "sha256").hex()[:_FINGERPRINT_DIGITS]


def key_text(key: bytes) -> str:
    """Return the exported text of a key: version, base64url of its 32 bytes, checksum; one line, 60 signs."""
    begin = f"{_PREFIX}:{base64.urlsafe_b64encode(key).decode().rstrip('=')}"
    return f"{begin}:{hashlib.sha256(begin.encode()).hexdigest()[:8]}"


def parse_key(content: bytes, origin: str) -> bytes:
    """Read an exported text; white space around it, and a byte order mark, are skipped.

    Args:
        content: what `key_text` returned, in UTF-8.
        origin: where it comes from, for messages: `the file 'a.key'`.

    Raises:
        HomeError: it is no exported text, is damaged, or is of a newer version; no part of it is repeated.
    """
    text = content.decode("utf-8-sig", "replace").strip()
    if not text:
        raise HomeError(
            f"{origin} is empty: `similarity key export` on a machine of the index writes its key"
        )
    if not _ANY_VERSION.match(text):
        raise HomeError(
            f"{origin} is no exported key: `similarity key export` on a machine of the index writes one"
        )
    if not text.startswith(f"{_PREFIX}:"):
        raise HomeError(f"{origin} is a key of a newer version of Similarity: update the program")
    found = _TEXT.fullmatch(text)
    key = b"" if found is None else base64.urlsafe_b64decode(f"{found['key']}=")
    if found is None or key_text(key) != text:
        raise HomeError(
            f"{origin} is damaged or cut short: copy it again from what `similarity key export` wrote"
        )
    return key


def key_of_command(command: str) -> bytes:
    """Return the key that a command writes to its standard output; it runs once for all calls of a process.

    No shell runs it. It may take 30 s, has no standard input, and what it writes to its standard error is
    dropped: it may hold secrets.

    Args:
        command: the command line, as `SIMILARITY_KEY_COMMAND` has it.

    Raises:
        HomeError: it cannot be started, fails, takes too long, or writes no exported text. The message names
            the program, none of its arguments and nothing of what it wrote.
    """
    with _mutex:
        if command not in _keys:
            _keys[command] = _run(command)
        return _keys[command]


def _run(command: str) -> bytes:
    words, program = _parse_command(command)
    process = _start(words, program)
    try:
        output = _output(process)
    finally:
        if process.returncode is None:
            _kill(process)
    program = f"{program} of {COMMAND_SETTING}"
    if output is None:
        raise HomeError(
            f"{program} did not end within {COMMAND_SECONDS:g} s: run it by hand to see what it waits for"
        )
    if len(output) > KEY_TEXT_BYTES:
        raise HomeError(f"{program} wrote more than a key: it has to write one line, an exported key")
    if process.returncode != 0:
        code = process.returncode
        ended = f"with exit code {code}" if code > 0 else f"by signal {-code}"
        raise HomeError(f"{program} ended {ended} and gave no key: run it by hand to see why")
    return parse_key(output, f"what {program} wrote")


def _parse_command(command: str) -> tuple[str | list[str], str]:
    """Return what is started, and the program's name in quotes."""
    try:
        # Windows takes the line as it is: there `\` is no escape.
        words = shlex.split(command, posix=os.name == "posix")
    except ValueError:
        words = None
    if words is None:
        raise HomeError(f"{COMMAND_SETTING} has a quote that does not end: close it")
    if not words:
        raise HomeError(f"{COMMAND_SETTING} is set, and empty: name a program, or unset it")
    name = words[0].strip("\"'")
    if "=" in name:  # its value may be a secret
        raise HomeError(
            f"{COMMAND_SETTING} begins with a variable, which only a shell understands: "
            "write `env NAME=VALUE PROGRAM …`"
        )
    return (words if os.name == "posix" else command), f"the program {quoted(name)}"


def _start(words: str | list[str], program: str) -> "subprocess.Popen[bytes]":
    reason = ""
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what it starts can be ended with it, and nothing asks a terminal
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except FileNotFoundError:
        reason = "is not there: install it, or write its full path (no shell expands it)"
    except OSError as error:
        reason = f"cannot be started ({error.strerror or type(error).__name__}): look at the file"
    raise HomeError(f"{program} of {COMMAND_SETTING} {reason}")


def _output(process: "subprocess.Popen[bytes]") -> bytes | None:
    """Return what a process wrote until it ended; None where that takes too long.

    Of one that writes without end only so much is returned as shows that it is no key.
    """
    assert process.stdout is not None
    pipe, chunks = process.stdout, list[bytes]()

    def read() -> None:
        with pipe:
            chunks.append(pipe.read(KEY_TEXT_BYTES + 1))

    deadline = time.monotonic() + COMMAND_SECONDS
    # In a thread: Windows cannot wait for a pipe, and what the process started may hold it open for ever.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(COMMAND_SECONDS)
    if not chunks:
        return None
    if len(chunks[0]) <= KEY_TEXT_BYTES:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
    return chunks[0]


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that was not waited for yet, with all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
