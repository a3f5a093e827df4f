"""Exclusions: the parts of another patient's report that must not enter a draft.

A neighbour's report speaks of another patient: earlier images, a name, an age, a clinic. None of that is in
the image of the draft. A sentence with such a part is dropped as a whole, because removing a word from its
middle leaves a sentence that no radiologist wrote. Only words that stand before a noun and can be removed
without loss of grammar ("stable cardiomegaly") are removed; `corpus.language.sections.clean_text` has removed
mark-up before.

Names are not searched in a list. Every word must be known to the labeler's rules, or plain prose about an
image (`is_known`): neither names are among these words, nor those of an instruction hidden in a report, nor
those of findings without a vote.
"""

import re
from collections.abc import Mapping
from functools import cache
from itertools import chain

from corpus.language import mentions, triggers
from corpus.language.modifiers import MODIFIER_PHRASES
from corpus.language.phrases import choices_of, words, words_of

_FORBIDDEN: Mapping[str, str] = {
    "blanks": r"\bx{2,}\b|_{2,}|\[\s*\*|\*\s*\]",
    "comparison with an earlier image": r"\bprior\w*\b|\bprevious\w*|\bpreexisting\b|\bcompar\w+|"
    r"\binterval\w*|\bearlier\b|\bsince\b|\bagain\b|\bstill\b|\bremain\w*|\bpersist\w*|\bstable\b|"
    r"\bstability\b|\bunchanged\b|\bchang(?:e|es|ed|ing)\b|\bnew\w*\b|\brecent\w*|\bincreas\w+|"
    r"\bdecreas\w+|\bimprov\w+|\bworse\w*|\bprogress\w*|\bregress\w*|\bresol\w+|\bclear(?:ed|ing)\b|"
    r"\benlarging\b|\bdevelop\w+|\bevolv\w+|\bdiminish\w*|\breduc\w+|\bretract\w*|\bno longer\b|"
    r"\bredemonstrat\w*|\bre-?demonstrat\w*|\brecurr\w+|\bresidual\b|\balready\b|\bongoing\b|\bonce\b|"
    r"\bnow\b|\bcurrent\w*|\btoday\w*|\binterim\b|\bserial\b|\bbaseline\b|\b(?:larger|smaller|greater|"
    r"lesser|better|more|less) than\b|\breplac\w+|\bremov\w+",
    "the course of time": r"\bchronic\w*|\bacute on\b|\bsubacute\b|\blong-?\s?standing\b|\bold\b|"
    r"\bremote\b|\bhistor\w+|\bh/o\b|\bknown\b|\bstatus post\b|\bs/p\b|\bpost-?\s?(?:op|surg|proced|"
    r"trauma|treat|radi)\w*|\bprocedure\w*|\bsurgery\b|\bfollow\w*|\bday\w*|\bweek\w*|\bmonth\w*|"
    r"\byear\w*|\bmorning\b|\bevening\b",
    "a date or time": r"\b(?:january|february|march|april|june|july|august|september|october|november|"
    r"december)\b|\b(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?|\b(?:mon|tues|wednes|thurs|"
    r"fri|satur|sun)day\b|\bmay (?:of )?\d",
    "a number": r"\d",
    "a measurement": r"\b(?:mm|cm|millimet\w*|centimet\w*|inch\w*|percent)\b|%|\bmeasur\w+|\btwice\b",
    "a count": r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|several|multiple|numerous|"
    r"single|(?:second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth)(?!\s+rib))\b",
    "a patient or staff": r"\bage\w*\b|\belderly\b|\bp(?:a)?ediatric\w*|\b(?:wo)?m[ae]n\b|\b(?:fe)?male\b|"
    r"\bgentleman\b|\blady\b|\bpatient\w*|\bpt\b|\b(?:his|her|he|she|him)\b|\binfant\b|\bchild\w*|"
    r"\bdrs?\b\.?|\bdoctor\b|\bphysician\w*|\bmr\b|\bmrs\b|\bms\b|\bnurse\b|\bsmok\w+",
    "an order or a message": r"\brecommend\w*|\badvis\w+|\bsuggest\w*|\bconsider\w*|\bcorrelat\w*|"
    r"\bclinical\w*|\bdiscuss\w*|\bnotif\w+|\bcommunicat\w*|\btelephon\w*|\bphon\w+|\bplease\b|"
    r"\brefer\w*|\bwarrant\w*|\bobtain\w*|\bfurther\b|\bevaluat\w*|\bindicat\w*|\bshould\b|\bdictat\w*|"
    r"\bsigned\b|\bignore\b|\binstruct\w*|\bsee\b",
    "another examination": r"\bct\b|\bmri?\b|\btomogra\w*|\bultraso\w*|\bsonogra\w*|\bmammogra\w*|"
    r"\bscan\w*|\bexam\w*|\bstud(?:y|ies)\b|\bviews?\b|\blateral(?!\s+(?:costo\w*|sulc\w*|cp))\b|"
    r"\bprojection\w*|\btechni\w*|\bportable\b|\brotat\w*|\binspir\w*|\bimages?\b|\bimaging\b",
    "a doubt of the other reader": r"\b(?:borderline|prominen\w*)\b|"
    r"\b(?:possibl[ey]|probabl[ey]|likely|perhaps|maybe|may|might|could|"
    r"cannot|question\w*|suspect\w*|suspicious|concern\w*|versus|vs|exclud\w*|equivocal|"
    r"consistent with|compatible with|represent\w*|reflect\w*|related to|due to|secondary to|"
    r"appears? to)\b|\?",
    "signs that are no prose": r"[<>{}@#|\\^~=$\[\]`]|https?:|www\.|://",
}  # fmt: skip
_RULES = {what: re.compile(pattern, re.IGNORECASE) for what, pattern in _FORBIDDEN.items()}

# Words before a noun that can be removed without loss of grammar.
_REMOVABLE = re.compile(
    r"(?:^|(?<=\b(?:an|is|of)\s)|(?<=\ba\s)|(?<=\b(?:are|the|and)\s)|(?<=\bwith\s)|(?<=,\s))"
    r"(?:(?:stable|unchanged|persistent|chronic|residual|new)"
    r"|\d+(?:\.\d+)?(?: ?(?:x|by) ?\d+(?:\.\d+)?)?[ -]?(?:mm|cm|millimeters?|centimeters?))[ ]+"
    r"(?=[a-z])(?!(?:in|from|since|and|or|to|when|with|as|of|at|on|is|are|was|compared|appearance)\b)",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"\b(a|an)(?= ([a-z]))", re.IGNORECASE)
_BROKEN = re.compile(
    r"^\W*(?:and|or|of|is|are|was|in|at|with|by|which|to)\b"
    r"|\b(?:the|a|an)\s+(?:is|are|was|were|shows?|contains?|has|in|at|on|of|with|and|or|[.,;:)]|$)"
    r"|\b(?:in|at|on|of|with|within|and|or|by|the|a|an|over|involving)\s*(?:[.,;:)]|$)"
    r"|\b(?:in|at|on|of|within)\s+(?:is|are|and|or|in|at|on|of|with)\b"
    r"|\b(the|a|an|and|or|in|at|on|of|with)\s+\1\b|,\s*[,.]|\(\s*\)",
    re.IGNORECASE,
)


def exclusions(sentence: str) -> tuple[str, ...]:
    """The kinds of excluded content in a sentence; empty where it has none."""
    return tuple(what for what, rule in _RULES.items() if rule.search(sentence))


def transferable(sentence: str) -> str | None:
    """Return the sentence as it may stand in the draft of another image, or None where it may not.

    Words of change and measurements that only qualify a noun are removed. Any other exclusion drops the
    sentence, and so does broken grammar. Laterality, zone and severity stay: `retrieval.draft.modifiers`
    checks them against this image.
    """
    shortened = _REMOVABLE.sub("", sentence)
    text = tidy(shortened) if shortened != sentence else sentence
    return None if text is None or exclusions(text) or not is_known(text) else text


def tidy(text: str) -> str | None:
    """Repair blanks, articles and the first letter after a removal; None where the grammar is broken."""
    text = re.sub(r"\s+([.,;:)])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,;:")
    text = _ARTICLE.sub(lambda m: _article(m[1], m[2]), text)
    if _BROKEN.search(text) or len(words(text)) < 2:
        return None
    return text[:1].upper() + text[1:]


def _article(article: str, following: str) -> str:
    fitting = "an" if following.lower() in "aeiou" else "a"
    return fitting.capitalize() if article[0].isupper() else fitting


_PROSE = frozenset(
    words(
        "a an and are as at be by for in into is it its of on or over the there this to with within "
        "without along also both which that than has have seen noted identified present visible "
        "demonstrated appreciated evident shows show contains contain projects projecting overlying "
        "overlies involving throughout patchy streaky linear focal diffuse hazy dense faint subtle vague "
        "scattered mild mildly rounded round discoid platelike plate like bandlike subsegmental segmental "
        "basilar reticular confluent ill well defined airspace interstitial alveolar bilaterally bases "
        "base region area areas focus foci"
    )
)
"""Words about an image that claim no finding."""


@cache
def _rule_words() -> frozenset[str]:
    """Every word in the labeler's phrases."""
    templates = (
        t for phrases, _ in chain(mentions.phrases(), triggers.phrases()) for t in phrases.split(";")
    )
    return words_of(map(choices_of, templates))


def is_known(sentence: str) -> bool:
    """Whether every word is in the labeler's rules, a modifier, or plain prose."""
    return all(
        word in _PROSE or word in _rule_words() or MODIFIER_PHRASES.find([word])
        for word in words(sentence)
        if word.isalpha()
    )
