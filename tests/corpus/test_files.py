"""A file is written whole or not at all."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from corpus.files import READABLE, write_whole


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    assert write_whole(path, b"old") == path
    write_whole(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_file_is_its_owners_only_unless_it_may_be_read(tmp_path: Path) -> None:
    assert write_whole(tmp_path / "private", b"").stat().st_mode & 0o777 == 0o600
    (tmp_path / "plain").touch()
    readable = write_whole(tmp_path / "readable", b"", mode=READABLE)
    assert readable.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "last.pt", b"old")

    def full(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, full)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
