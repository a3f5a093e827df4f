"""From texts to token windows: nothing is cut in silence.

A text that is longer than the network's context becomes several windows of nearly equal length, parted
between words; the caller averages their vectors. Tokens are those of open_clip's own tokenizer.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, get_clean_fn
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from corpus.errors import EncoderError


class WindowTokenizer:
    """Cuts texts into windows of token ids. Holds no state between calls: threads may share it."""

    def __init__(self, tokenizer: Tokenizer, clean: Callable[[str], str], context_length: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._clean = clean
        self.context_length = context_length
        pad = tokenizer.token_to_id("[PAD]")
        self.pad_id: int = 0 if pad is None else pad
        self._prefix, self._suffix = _frame(tokenizer)
        self._room = context_length - len(self._prefix) - len(self._suffix)
        if self._room < 1:
            raise EncoderError(f"a context of {context_length} tokens leaves no room for text")

    @classmethod
    def of_folder(cls, folder: Path) -> "WindowTokenizer":
        """Read the tokenizer of an encoder folder as plain open_clip does.

        Raises:
            EncoderError: the folder's tokenizer cannot be read, or is not of the kind that we can window.
        """
        try:
            plain = open_clip.get_tokenizer(f"local-dir:{folder}")
        except Exception as error:  # transformers raises many kinds for one cause
            raise EncoderError(f"the tokenizer of {folder} cannot be read: {error}") from error
        if not isinstance(plain, HFTokenizer):
            raise EncoderError(
                f"{folder} uses open_clip's {type(plain).__name__}; a tokenizer.json is needed"
            )
        fast = Tokenizer.from_str(plain.tokenizer.backend_tokenizer.to_str())
        return cls(fast, plain.clean_fn, plain.context_length)

    @classmethod
    def of_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, context_length: int) -> "WindowTokenizer":
        """Wrap a tokenizer that is not yet in a folder; it cleans texts as plain open_clip does."""
        backend: Any = tokenizer
        fast = Tokenizer.from_str(backend.backend_tokenizer.to_str())
        return cls(fast, get_clean_fn("whitespace"), context_length)

    def windows(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """Token ids of each text's windows, special tokens included, at most `context_length` long.

        Raises:
            EncoderError: a text is empty, or has no token; the message gives its position.
        """
        cleaned = [self._clean(text) for text in texts]
        encodings = self._tokenizer.encode_batch(cleaned, add_special_tokens=False)
        for position, encoding in enumerate(encodings):
            if not encoding.ids:
                raise EncoderError(f"text {position} is empty: there is nothing to encode")
        return [
            [[*self._prefix, *encoding.ids[start:end], *self._suffix] for start, end in self._cuts(encoding)]
            for encoding in encodings
        ]

    def _cuts(self, encoding: Encoding) -> Iterator[tuple[int, int]]:
        """Even stretches of a text's tokens, each starting with a word."""
        words, start, total = encoding.word_ids, 0, len(encoding.ids)
        while start < total:
            left = total - start
            end = start + -(-left // -(-left // self._room))
            border = end
            while start < border < total and words[border] is not None and words[border] == words[border - 1]:
                border -= 1
            if border > start:  # else one word alone is longer than the window, and is parted
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


def pad(windows: Sequence[Sequence[int]], pad_id: int) -> torch.Tensor:
    """Stack windows into (n, longest) int64, filled up with `pad_id`."""
    longest = max(map(len, windows))
    return torch.tensor([[*window, *([pad_id] * (longest - len(window)))] for window in windows])
