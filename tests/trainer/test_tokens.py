"""Tokens without open_clip and transformers: the very ones that plain open_clip gives."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import get_clean_fn

from corpus.errors import EncoderError
from corpus.sources import open_source
from trainer.runtime.tokens import WindowTokenizer, cleaner, read_own_tokenizer

HARD = (
    "naïve 5½ ß İ ＦＵＬＬ 胸部 X線 &amp;lt; \u00a0 â€™s",
    "é\u0301 µ ≥3 cm <b>x</b> [CLS] [PAD] [SEP] [MASK] a_b\u200b\ufeff",
    "“quoted” … ½ﬁ — the heart's 12-cm, it'll grow",
)


def folder_of(tokenizer: Path, folder: Path) -> Path:
    """What open_clip reads of an encoder folder for its tokenizer."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (tokenizer / name).is_file():
            shutil.copy(tokenizer / name, folder / name)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    text = {"hf_model_name": ".", "hf_tokenizer_name": ".", "context_length": 64}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text}}))
    return folder


def assert_same_tokens(folder: Path, texts: list[str]) -> None:
    plain: Any = open_clip.get_tokenizer(f"local-dir:{folder}")
    ours = WindowTokenizer.of_folder(folder)
    assert ours.pad_id == plain.tokenizer.pad_token_id
    for text, windows in zip(texts, ours.windows(texts), strict=True):
        ids = plain.tokenizer(plain.clean_fn(text))["input_ids"]
        assert [token for window in windows for token in window[1:-1]] == ids[1:-1], text
        assert all((window[0], window[-1]) == (ids[0], ids[-1]) for window in windows)


@cache
def reports(data: Path) -> list[str]:
    studies = open_source(f"openi:{data / 'openi'}").studies(lambda _: None)
    return [study.report.text for study in studies if study.report]


def test_a_folders_tokens_are_those_of_open_clip(encoder_folder: Path) -> None:
    assert_same_tokens(encoder_folder, [*HARD, "no pleural effusion", "LARGE left nodule " * 20])


@pytest.mark.real_data
def test_real_reports_have_the_tokens_of_open_clip(models: Path, data: Path, tmp_path: Path) -> None:
    folder = folder_of(models / "biomedclip-tokenizer", tmp_path)
    assert_same_tokens(folder, [*HARD, *reports(data)[:1000]])


@pytest.mark.parametrize("kind", ["whitespace", "lower", "canonicalize"])
@given(st.text(min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
@example(" ".join(HARD))
@example("&amp;amp;lt; \x1c \x85 __init__ ﬀ ½")
def test_texts_are_cleaned_as_by_open_clip(kind: str, text: str) -> None:
    assert cleaner(kind)(text) == get_clean_fn(kind)(text)


def test_an_unknown_cleaning_is_refused() -> None:
    with pytest.raises(EncoderError, match="unknown cleaning of texts 'soap'"):
        cleaner("soap")


def test_the_stored_vocabulary_of_open_clip_gives_its_tokens(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": {}}}))
    before = WindowTokenizer.of_folder(tmp_path)
    (tmp_path / "graphs").mkdir()
    read_own_tokenizer(tmp_path).save(str(tmp_path / "graphs" / "tokenizer.json"))
    after = WindowTokenizer.of_folder(tmp_path)
    texts = [*HARD, "No pleural effusion. " * 30]
    assert before.windows(texts) == after.windows(texts)
    plain = open_clip.tokenizer.SimpleTokenizer()
    for text, windows in zip(texts, after.windows(texts), strict=True):
        assert [token for window in windows for token in window[1:-1]] == plain.encode(text)


def test_a_folder_without_a_tokenizer_file_is_refused(tmp_path: Path) -> None:
    text = {"hf_tokenizer_name": "."}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text}}))
    with pytest.raises(EncoderError, match=r"a tokenizer\.json is needed"):
        WindowTokenizer.of_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(EncoderError, match="cannot be read"):
        WindowTokenizer.of_folder(tmp_path)
