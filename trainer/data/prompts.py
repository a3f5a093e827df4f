"""Prompts: sentences that affirm, deny or doubt a finding, and made texts for images without a report.

Every finding has the same frames over its own names, and sentences of its own (`trainer.data.wordings`). The
content of a sentence is what `corpus.language.labeler` finds in it: the finding with its status, what follows
from that in the tree of findings, and nothing else.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

from corpus.errors import UsageError
from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status, Statuses, is_normal
from trainer.data.wordings import FRAMES, NORMAL, WORDINGS

MOST_DENIALS = 4
"""The most findings that a made text denies: a report names a few, not all absent ones."""


@cache
def prompt_sentences(name: str, status: Status) -> tuple[str, ...]:
    """The sentences that give a finding a status.

    Args:
        name: a finding of the vocabulary, parents included, or `no_finding`.
        status: present, absent or uncertain.

    Returns:
        At least five distinct sentences; none for an absent or uncertain `no_finding` (the findings say what
        the radiograph shows instead) and none for unmentioned.

    Raises:
        UsageError: the vocabulary has no such finding.
    """
    if name == NO_FINDING:
        return NORMAL if status is Status.PRESENT else ()
    if name not in WORDINGS:
        raise UsageError(f"there are no sentences for {name!r}; known are {', '.join(VOCABULARY.names)}")
    if status is Status.UNMENTIONED:
        return ()
    wording = WORDINGS[name]
    own = {
        Status.PRESENT: wording.affirmed,
        Status.ABSENT: wording.denied,
        Status.UNCERTAIN: wording.doubted,
    }[status]
    framed = (
        frame.format(a_name=noun, A_name=_capital(noun), name=_bare(noun), **{"is": wording.verb})
        for noun in wording.names
        for frame in FRAMES[status]
    )
    return (*framed, *own)


def describe(statuses: Statuses, random: np.random.Generator) -> str:
    """A report-like text of the findings of a radiograph; another draw gives other words.

    The text contains every present or uncertain finding (a parent only where no child has its status), denies
    up to `MOST_DENIALS` absent ones, each in a sentence or all in one, and calls a normal radiograph normal.
    The order is random.

    Args:
        statuses: of the findings; spread along the tree first.
        random: generator of the draws.

    Returns:
        Sentences, joined by blanks; empty where no status is known. `label_text` finds in them exactly the
        present and uncertain leaves of `statuses`, and denies nothing that `statuses` does not (in a text
        that calls a radiograph normal it may deny unmentioned findings).
    """
    known = VOCABULARY.spread({name: s for name, s in statuses.items() if name != NO_FINDING})
    sentences = [
        _draw(prompt_sentences(name, status), random)
        for status in (Status.PRESENT, Status.UNCERTAIN)
        for name in _named(known, status)
        if not any(known.get(child) is status for child in VOCABULARY.children(name))
    ]
    if is_normal(statuses) and all(known[name] is Status.ABSENT for name in known if name != SUPPORT_DEVICES):
        sentences.append(_draw(NORMAL, random))
    absent = [name for name in _named(known, Status.ABSENT) if _denies_nothing_else(name, known)]
    sentences += _deny(absent, random, least=0 if sentences else 1)
    return " ".join(sentences[position] for position in random.permutation(len(sentences)))


def _named(known: Statuses, status: Status) -> list[str]:
    return [name for name in VOCABULARY.names if known.get(name) is status]


def _denies_nothing_else(name: str, known: Statuses) -> bool:
    """Whether denying a finding denies no child that is not absent."""
    return all(known.get(child) is Status.ABSENT for child in VOCABULARY.children(name))


def _deny(names: Sequence[str], random: np.random.Generator, least: int) -> list[str]:
    """Sentences that deny some of the findings: one each, or one for all."""
    most = min(MOST_DENIALS, len(names))
    count = int(random.integers(min(least, most), most + 1))
    chosen = [names[position] for position in random.permutation(len(names))[:count]]
    if count > 1 and random.random() < 0.5:
        *others, last = (_bare(_draw(WORDINGS[name].names, random)) for name in chosen)
        return [f"No {', '.join(others)} or {last}."]
    return [_draw(prompt_sentences(name, Status.ABSENT), random) for name in chosen]


def _draw(choices: Sequence[str], random: np.random.Generator) -> str:
    return choices[int(random.integers(len(choices)))]


def _bare(noun: str) -> str:
    """A name without its article."""
    return noun.removeprefix("a ").removeprefix("an ")


def _capital(noun: str) -> str:
    return noun[0].upper() + noun[1:]
