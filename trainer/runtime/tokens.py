"""From texts to token windows: no text is truncated.

A text that is longer than the network's context becomes several windows of nearly equal length, split
between words; the caller averages their vectors. Tokens are those that plain open_clip gives, and neither
open_clip nor transformers is imported for them.
"""

import html
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ftfy
import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Regex, Tokenizer, models, pre_tokenizers, processors

from corpus.errors import EncoderError
from trainer.runtime.encoder_folder import CONFIG, OWN_TOKENIZER, TOKENIZER, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DEFAULT_CONTEXT_LENGTH = 77  # where open_clip's configuration gives none
_PAD_TOKEN = ("tokenizer_config.json", "special_tokens_map.json")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class WindowTokenizer:
    """Splits texts into windows of token ids. Stateless between calls: threads may share it.

    Args:
        tokenizer: of the text tower; its padding and truncation are switched off.
        clean: cleans a text before tokenization.
        context_length: maximal number of tokens of the network, special tokens included.
        pad_id: the token that `pad` fills windows up with.
        whole: pad every window to the whole context, as open_clip's own text tower needs; Hugging Face's
            towers take any length.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        clean: Callable[[str], str],
        context_length: int,
        pad_id: int | None,
        *,
        whole: bool = False,
    ) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._clean = clean
        self.context_length = context_length
        self.pad_id = pad_id or 0
        self.whole = whole
        self._prefix, self._suffix = _frame(tokenizer)
        self._room = context_length - len(self._prefix) - len(self._suffix)
        if self._room < 1:
            raise EncoderError(f"a context of {context_length} tokens leaves no room for text")

    @classmethod
    def of_folder(cls, folder: Path) -> "WindowTokenizer":
        """Read the tokenizer of an encoder folder to the tokens of plain open_clip.

        Raises:
            EncoderError: the folder's tokenizer cannot be read, or is not of the kind that we can window.
        """
        text = read_json(folder / CONFIG)["model_cfg"]["text_cfg"]
        context = int(text.get("context_length") or _DEFAULT_CONTEXT_LENGTH)
        clean = (text.get("tokenizer_kwargs") or {}).get("clean")
        if not text.get("hf_tokenizer_name"):
            return cls(read_own_tokenizer(folder), cleaner(clean or "lower"), context, 0, whole=True)
        if not (folder / TOKENIZER).is_file():
            raise EncoderError(f"{folder} has a tokenizer of another kind; a {TOKENIZER} is needed")
        tokenizer = _read(folder / TOKENIZER)
        own_tower = not text.get("hf_model_name")
        pad_id = _pad_id(tokenizer, folder)
        return cls(tokenizer, cleaner(clean or "whitespace"), context, pad_id, whole=own_tower)

    @classmethod
    def of_tokenizer(cls, tokenizer: "PreTrainedTokenizerBase", context_length: int) -> "WindowTokenizer":
        """Wrap a tokenizer that is not yet in a folder; it cleans texts as plain open_clip does."""
        backend: Any = tokenizer
        fast = Tokenizer.from_str(backend.backend_tokenizer.to_str())
        return cls(fast, cleaner("whitespace"), context_length, backend.pad_token_id)

    def windows(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """Token ids of each text's windows, special tokens included, at most `context_length` long.

        Raises:
            EncoderError: a text is empty, or has no token; the message gives its position.
        """
        cleaned = [self._clean(text) for text in texts]
        # One by one: a batch would start threads of its own, which a later fork of this process warns of.
        encodings = [self._tokenizer.encode(text, add_special_tokens=False) for text in cleaned]
        for position, encoding in enumerate(encodings):
            if not encoding.ids:
                raise EncoderError(f"text {position} is empty: there is nothing to encode")
        return [
            [
                [*self._prefix, *encoding.ids[start:end], *self._suffix]
                for start, end in self._window_bounds(encoding)
            ]
            for encoding in encodings
        ]

    def pad(self, windows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Stack windows into (n, length) int64: as long as the longest, or the whole context where needed."""
        length = max(self.context_length if self.whole else 0, *map(len, windows))
        padded = np.full((len(windows), length), self.pad_id, np.int64)
        for row, window in zip(padded, windows, strict=True):
            row[: len(window)] = window
        return padded

    def _window_bounds(self, encoding: Encoding) -> Iterator[tuple[int, int]]:
        """Start and end of each window: even stretches of a text's tokens that begin with a word."""
        words, start, total = encoding.word_ids, 0, len(encoding.ids)
        while start < total:
            left = total - start
            end = start + -(-left // -(-left // self._room))
            border = end
            while start < border < total and words[border] is not None and words[border] == words[border - 1]:
                border -= 1
            if border > start:  # else one word alone is longer than the window, and is split
                end = border
            yield start, end
            start = end


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text."""
    encoding = tokenizer.encode("a")
    inside = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
    if not inside:
        raise EncoderError("the tokenizer has no token for a plain letter; its vocabulary is damaged")
    return encoding.ids[: inside[0]], encoding.ids[inside[-1] + 1 :]


def cleaner(kind: str) -> Callable[[str], str]:
    """The cleaning of a text before tokenization, by open_clip's name of it.

    All repair wrongly decoded characters, resolve HTML entities (twice, for doubly escaped ones) and join
    words by single spaces. `lower` also lowers case; `canonicalize` lowers case and drops punctuation.

    Raises:
        EncoderError: open_clip has no cleaning of that name.
    """
    cleanings = {"whitespace": _clean, "lower": _clean_lower, "canonicalize": _clean_canonicalize}
    if kind not in cleanings:
        raise EncoderError(f"unknown cleaning of texts {kind!r}; known are {', '.join(cleanings)}")
    return cleanings[kind]


def _clean(text: str) -> str:
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def _clean_lower(text: str) -> str:
    return _clean(text).lower()


def _clean_canonicalize(text: str) -> str:
    bare = _clean(text).replace("_", " ").translate(_NO_PUNCTUATION)
    return " ".join(bare.lower().split())


def _read(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a plain Exception
        raise EncoderError(f"the tokenizer of {path.parent} cannot be read: {error}") from error


def _pad_id(tokenizer: Tokenizer, folder: Path) -> int | None:
    """The id of the padding token that the files beside a tokenizer name; None where none does."""
    for path in (folder / name for name in _PAD_TOKEN):
        token = read_json(path).get("pad_token") if path.is_file() else None
        content = token.get("content") if isinstance(token, dict) else token
        if content is not None:
            found: int | None = tokenizer.token_to_id(content)
            return found
    return None


def read_own_tokenizer(folder: Path) -> Tokenizer:
    """Read open_clip's own tokenizer: as exported with the graphs of a folder, else from open_clip.

    Raises:
        EncoderError: the file cannot be read; or there is none, and open_clip is not installed.
    """
    if (folder / OWN_TOKENIZER).is_file():
        return _read(folder / OWN_TOKENIZER)
    try:
        from open_clip.tokenizer import SimpleTokenizer  # late: takes seconds, and inference needs it not
    except ImportError as error:
        raise EncoderError(
            f"the vocabulary of {folder} is open_clip's, which is not installed; where it is, run: "
            f"similarity encoders export {folder}"
        ) from error
    return _byte_pairs(SimpleTokenizer())


def _byte_pairs(plain: Any) -> Tokenizer:
    """open_clip's own tokenizer (byte pairs of lower-case words), with word boundaries.

    The names of its special tokens count as ordinary words in a text: no text can end itself early.
    """
    start, end = "<start_of_text>", "<end_of_text>"
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
    model = models.BPE(dict(plain.encoder), list(plain.bpe_ranks), end_of_word_suffix="</w>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, plain.sot_token_id), (end, plain.eot_token_id)],
    )
    return tokenizer
