"""From texts to token windows: no text is truncated.

A text that is longer than the network's context becomes several windows of nearly equal length, split
between words; the caller averages their vectors. Tokens are those of open_clip's own tokenizer.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer, get_clean_fn
from tokenizers import Encoding, Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase

from corpus.errors import EncoderError
from trainer.runtime.encoder_folder import CONFIG, read_json


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
        self._shortest = context_length if whole else 0
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
        if isinstance(plain, SimpleTokenizer):
            context = plain.context_length or DEFAULT_CONTEXT_LENGTH
            return cls(_byte_pairs(plain), plain.clean_fn, context, 0, whole=True)
        if not isinstance(plain, HFTokenizer):
            raise EncoderError(
                f"{folder} uses open_clip's {type(plain).__name__}; a tokenizer.json is needed"
            )
        fast = Tokenizer.from_str(plain.tokenizer.backend_tokenizer.to_str())
        own_tower = not read_json(folder / CONFIG)["model_cfg"]["text_cfg"].get("hf_model_name")
        pad_id = plain.tokenizer.pad_token_id
        return cls(fast, plain.clean_fn, plain.context_length, pad_id, whole=own_tower)

    @classmethod
    def of_tokenizer(cls, tokenizer: PreTrainedTokenizerBase, context_length: int) -> "WindowTokenizer":
        """Wrap a tokenizer that is not yet in a folder; it cleans texts as plain open_clip does."""
        backend: Any = tokenizer
        fast = Tokenizer.from_str(backend.backend_tokenizer.to_str())
        return cls(fast, get_clean_fn("whitespace"), context_length, backend.pad_token_id)

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
            [
                [*self._prefix, *encoding.ids[start:end], *self._suffix]
                for start, end in self._window_bounds(encoding)
            ]
            for encoding in encodings
        ]

    def pad(self, windows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Stack windows into (n, length) int64: as long as the longest, or the whole context where needed."""
        length = max(self._shortest, *map(len, windows))
        return torch.tensor([[*window, *([self.pad_id] * (length - len(window)))] for window in windows])

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


def _byte_pairs(plain: SimpleTokenizer) -> Tokenizer:
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
