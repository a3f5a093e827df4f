"""Images that are none: each is refused by name, in one line, and nothing hangs."""

import contextlib
import io
import os
import resource
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from corpus import files
from corpus.errors import NotAdmitted, UnreadableImage
from corpus.images.reader import read_image
from corpus.settings import settings as corpus_settings

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)


def encoded(kind: str, file_image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (file_image or Image.fromarray(NOISE)).save(buffer, kind, **options)
    return buffer.getvalue()


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableImage) as refused:
        read_image(path)
    message = str(refused.value)
    assert "\n" not in message
    assert str(path.parent) not in message, "a folder's name can be a patient's"
    return message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (encoded("PNG")[:2000], "broken or truncated PNG"),
        (encoded("JPEG")[:1500], "broken or truncated JPEG"),
        (encoded("PNG")[:20], "broken or truncated PNG"),
        (b"\xff\xd8\xff\xe0", "broken or truncated JPEG"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"No such image.\r\n", "is text"),
        (bytes(range(256)) * 4, "of no known kind"),
        (encoded("GIF"), "a GIF"),
        (encoded("TIFF"), "a TIFF"),
        (encoded("BMP"), "a BMP"),
        (encoded("WEBP"), "a WebP"),
        (encoded("JPEG2000"), "JPEG 2000"),
        (b"%PDF-1.7\n", "a PDF"),
        (encoded("PNG", Image.new("L", (1, 1))), "1 x 1 pixels: too small"),
        (encoded("PNG", Image.new("L", (400, 15), 3)), "15 x 400 pixels: too small"),
        (encoded("PNG", Image.new("L", (64, 64), 7)), "blank"),
        (encoded("JPEG", Image.new("RGB", (64, 64), (9, 9, 9))), "blank"),
        (encoded("PNG", Image.new("RGBA", (64, 64), (200, 9, 9, 0))), "blank"),
    ],
)
def test_a_file_that_is_no_image_is_refused_by_its_kind(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith("'image.png' ")
    assert reason in message


def test_an_animated_png_is_not_one_image(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(NOISE, n)) for n in range(3)]
    (tmp_path / "a.png").write_bytes(encoded("PNG", frames[0], save_all=True, append_images=frames[1:]))
    assert "holds 3 frames" in refusal(tmp_path / "a.png")


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_000, 20_000, 2_000_000_000])
def test_a_pixel_bomb_is_refused_from_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    message = refusal(tmp_path / "bomb.png")
    assert "than the 120,000,000 that are read" in message


def test_the_limit_on_pixels_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_MAX_IMAGE_PIXELS", "4000")
    corpus_settings.cache_clear()
    try:
        (tmp_path / "a.png").write_bytes(encoded("PNG"))
        assert "64 x 64 pixels, more than the 4,000" in refusal(tmp_path / "a.png")
    finally:
        monkeypatch.undo()
        corpus_settings.cache_clear()


def test_a_file_too_large_for_its_pixels_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_MAX_IMAGE_PIXELS", "100000")
    corpus_settings.cache_clear()
    try:
        with (tmp_path / "sparse.png").open("wb") as file:
            file.truncate(1 << 40)
        assert "more than the 800,000 that are read" in refusal(tmp_path / "sparse.png")
    finally:
        monkeypatch.undo()
        corpus_settings.cache_clear()


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP"])
def test_a_bomb_in_a_png_text_or_profile_costs_no_memory(tmp_path: Path, chunk: bytes) -> None:
    content = encoded("PNG")
    packer = zlib.compressobj()
    body = b"name\0\0" + b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(200)) + packer.flush()
    bomb = struct.pack(">I", len(body)) + chunk + body + struct.pack(">I", zlib.crc32(chunk + body))
    (tmp_path / "a.png").write_bytes(content[:33] + bomb + content[33:])
    (tmp_path / "plain.png").write_bytes(content)
    read_image(tmp_path / "plain.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(UnreadableImage):  # refused is as good as read: neither unpacks it
        read_image(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes"


def test_a_pipe_without_a_writer_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "image.png")
    assert "is a named pipe" in refusal(tmp_path / "image.png")


def test_sockets_devices_and_folders_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    assert "is a device" in refusal(tmp_path / "zero.png")
    here = Path.cwd()
    os.chdir(tmp_path)  # a socket's path has room for a hundred letters
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket.png")
            assert "is a socket" in refusal(tmp_path / "socket.png")
    finally:
        os.chdir(here)


def test_links_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")
    assert "a loop of links" in refusal(tmp_path / "a.png")
    assert "is not there" in refusal(tmp_path / "c.png")
    assert "is not there" in refusal(tmp_path / "never.png")
    assert "no file can have" in refusal(tmp_path / "zero\0.png")


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may read everything: run a test as an unprivileged user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_file_without_permission_is_refused(tmp_path: Path, unprivileged: None) -> None:
    path = tmp_path / "image.png"
    if os.geteuid() != 65534:
        path.write_bytes(encoded("PNG"))
        path.chmod(0)
    # For that user the folder itself is closed: the same refusal.
    assert "may not be read by this user" in refusal(path)


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encoded("PNG"))
    real_fdopen = os.fdopen

    def fdopen_then_grow(*arguments: object, **options: object) -> object:
        opened = real_fdopen(*arguments, **options)  # type: ignore[arg-type,call-overload]
        real_read = opened.read

        class Growing:
            def __enter__(self) -> "Growing":
                return self

            def __exit__(self, *exception: object) -> None:
                opened.close()

            def fileno(self) -> int:
                return opened.fileno()

            def read(self, size: int) -> bytes:
                content = real_read(size)
                with path.open("ab") as writer:
                    writer.write(b"more")
                return content

        return Growing()

    monkeypatch.setattr(files.os, "fdopen", fdopen_then_grow)
    assert "changed while it was read" in refusal(path)


def test_a_name_with_a_line_break_is_escaped_in_the_message(tmp_path: Path) -> None:
    (tmp_path / "a\nb\x1b[31m.png").write_bytes(b"")
    assert refusal(tmp_path / "a\nb\x1b[31m.png").startswith(r"'a\nb\x1b[31m.png' is empty")


@pytest.mark.parametrize("location", ["phantom://", "phantom://x/1", "phantom://1", "http://localhost/a.png"])
def test_a_location_that_is_no_file_and_no_phantom_is_refused(location: str) -> None:
    with pytest.raises(UnreadableImage, match="is not there"):
        read_image(location)


@settings(max_examples=150)
@given(
    st.sampled_from([encoded("PNG"), encoded("JPEG"), encoded("PNG", Image.fromarray(NOISE).convert("P"))]),
    st.data(),
)
def test_damaged_bytes_are_read_or_refused_and_never_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(content)
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        damaged[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.png"
    path.write_bytes(bytes(damaged[: data.draw(st.integers(1, len(damaged)))]))
    try:
        image = read_image(path)
    except UnreadableImage:
        return
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1


def test_a_modality_that_is_not_admitted_differs_from_a_broken_file(tmp_path: Path, make_dicom) -> None:
    path = make_dicom(tmp_path / "a.dcm", Modality="MR")
    assert read_image(path).shape == (32, 32)
    with pytest.raises(NotAdmitted, match=r"'a\.dcm' is of modality MR"):
        read_image(path, admit=frozenset({"CR", "DX"}))
    assert read_image(path, admit=frozenset({"MR"})).shape == (32, 32)


def test_threads_read_the_same_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG"))
    expected, found = read_image(tmp_path / "a.jpg"), []
    threads = [
        threading.Thread(target=lambda: found.append(read_image(tmp_path / "a.jpg"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.array_equal(expected, image) for image in found)
