"""A WordPiece vocabulary learned from the training texts: the tokenizer of a text tower made from scratch."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerBase

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PRINTABLE = tuple(chr(code) for code in range(33, 127) if not chr(code).isupper())


def learn_tokenizer(texts: Iterable[str], size: int, context_length: int) -> PreTrainedTokenizerBase:
    """Learn a lower-casing WordPiece tokenizer of at most `size` tokens; `[PAD]` is token 0.

    Printable ASCII is always in it, alone and within words, so that a word never seen still has tokens.
    """
    spelled = [*_SPECIAL, *_PRINTABLE, *(f"##{sign}" for sign in _PRINTABLE if sign.isalnum())]
    learner = _wordpiece({token: number for number, token in enumerate(_SPECIAL)})
    learner.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=list(_SPECIAL), show_progress=False, min_frequency=2
        ),
    )
    learned = sorted(learner.get_vocab().items(), key=lambda pair: pair[1])
    tokens = list(dict.fromkeys([*spelled, *(token for token, _ in learned)]))[: max(size, len(spelled))]
    tokenizer = _wordpiece({token: number for number, token in enumerate(tokens)})
    return BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=context_length)


def _wordpiece(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return tokenizer
