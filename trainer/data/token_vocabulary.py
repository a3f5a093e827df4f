"""A vocabulary learned from the training texts: the tokenizer of a text tower made from scratch.

Its pieces are the commonest whole words and, for every other word, single signs. The library's own WordPiece
trainer parts words more finely but breaks ties at random, so that two runs of one seed would differ.
"""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizerFast, PreTrainedTokenizerBase

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PRINTABLE = tuple(chr(code) for code in range(33, 127) if not chr(code).isupper())
_SPELLED = (*_SPECIAL, *_PRINTABLE, *(f"##{sign}" for sign in _PRINTABLE if sign.isalnum()))
_LEAST = 2  # a word met once is spelled: its vector could not be learned


def learn_tokenizer(texts: Iterable[str], size: int, context_length: int) -> PreTrainedTokenizerBase:
    """Learn a lower-casing WordPiece tokenizer of at most `size` tokens; `[PAD]` is token 0.

    Printable ASCII is always in it, alone and within words, so that a word never seen still has tokens.
    The same texts give the same tokenizer.
    """
    normalizer, parter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in parter.pre_tokenize_str(normalizer.normalize_str(text)))
    common = sorted(
        (word for word, count in counts.items() if count >= _LEAST), key=lambda w: (-counts[w], w)
    )
    tokens = list(dict.fromkeys([*_SPELLED, *common]))[: max(size, len(_SPELLED))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, parter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=context_length)
