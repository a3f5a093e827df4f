"""The catalog of published models: entries are complete, and their names and files are distinct."""

import re
from urllib.parse import urlsplit

import pytest

from corpus.errors import EncoderError
from trainer.models.catalog import (
    PUBLISHED_MODELS,
    PublishedModel,
    find_published,
    published_names,
    require_published,
)


@pytest.fixture(params=PUBLISHED_MODELS, ids=lambda known: known.name)
def known(request: pytest.FixtureRequest) -> PublishedModel:
    entry: PublishedModel = request.param
    return entry


def test_each_says_what_it_is_where_from_and_under_which_licence(known: PublishedModel) -> None:
    assert all((known.what, known.source, known.licence, known.preprocessing, known.files))
    assert (known.importer is None) == (known.kind == "sam")


def test_each_file_has_a_name_of_its_own_and_comes_encrypted_without_secrets(known: PublishedModel) -> None:
    names = [file.name for file in known.files]
    assert len(set(names)) == len(names)
    for file in known.files:
        if file.packaged is not None:
            assert known.distribution is not None
            assert file.sha256 is not None
            continue
        parts = urlsplit(file.url)
        assert (parts.scheme, parts.query, parts.username) == ("https", "", None)
        assert file.name == parts.path.rpartition("/")[2] != ""


def test_hashes_are_hex_digits_and_whole_or_a_start(known: PublishedModel) -> None:
    for file in known.files:
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.md5 is None or re.fullmatch(r"[0-9a-f]{6}|[0-9a-f]{32}", file.md5)
        assert file.size is None or file.size > 1_000_000


def test_files_of_a_hub_are_pinned_to_a_commit(known: PublishedModel) -> None:
    for file in known.files:
        if "huggingface.co" in file.url or "githubusercontent" in file.url:
            assert re.search(r"/[0-9a-f]{40}/", file.url)


def test_the_digits_in_the_name_of_a_sam_file_are_those_of_its_md5() -> None:
    """Not of its SHA-256: who takes them for that refuses every right file."""
    named = [known.weights for known in PUBLISHED_MODELS if known.name.startswith("sam-")]
    assert len(named) == 3
    for file in named:
        digits = file.name.removesuffix(".pth").rpartition("_")[2]
        assert file.md5 == digits
        assert file.sha256 is not None
        assert not file.sha256.startswith(digits)


def test_the_encoders_and_the_sam_files_are_found_by_name_and_sam_by_file_too() -> None:
    assert published_names("encoder") == ["biomedclip", "medclip-swin", "medclip-resnet50"]
    assert require_published("sam_vit_b_01ec64.pth") is require_published("sam-vit-b")
    assert require_published("medsam_vit_b.pth", "sam").name == "medsam-vit-b"
    assert find_published("biomedclip", "sam") is None
    assert find_published("nothing") is None
    with pytest.raises(EncoderError, match="did you mean 'biomedclip'"):
        require_published("biomedklip")
    with pytest.raises(EncoderError, match="known are sam-vit-b, "):
        require_published("xyz", "sam")
