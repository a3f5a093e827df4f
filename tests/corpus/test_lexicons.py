"""Reports in German, French, Spanish and Dutch: every kind of trigger, every finding."""

import tomllib
import unicodedata
from pathlib import Path

import pytest

from corpus.findings import NO_FINDING, VOCABULARY, Status, Statuses
from corpus.language.concepts import concepts
from corpus.language.detection import lexicon_of, lexicons
from corpus.language.labeler import affirmed_text, label_report, label_text
from corpus.language.sections import parse_report, split_sentences
from corpus.language.triggers import Direction, Trigger

P, A, U = Status.PRESENT, Status.ABSENT, Status.UNCERTAIN
PTX, EFF = "pneumothorax", "pleural_effusion"

SHIPPED = ("de", "es", "fr", "nl")

SENTENCES = tomllib.loads(Path(__file__).with_name("lexicon_sentences.toml").read_text("utf-8"))

TRIGGERS: dict[str, tuple[str, Status | None]] = {
    "negation_before": (PTX, A),
    "negation_after": (PTX, A),
    "present": (EFF, P),
    "unchanged_and_denied_change": (EFF, P),
    "resolved": (EFF, A),
    "uncertainty_before": ("pneumonia", U),
    "uncertainty_after": ("pneumonia", U),
    "cannot_exclude": (PTX, U),
    "history": (PTX, None),
    "question": (PTX, None),
}
"""What a kind of trigger makes of the finding that each of its sentences names."""

REPORTS = {
    "de": (
        "Klinische Angaben: Sturz. Frage nach Pneumothorax, Fraktur?\n"
        "Befund: Pneumothorax nicht nachweisbar. Fraktur der 3. Rippe links. Z.n. Pleuraerguss.\n"
        "Beurteilung:\nFraktur der 3. Rippe links. Kein Pneumothorax.",
        {PTX: A, "fracture": P, EFF: None},
    ),
    "fr": (
        "Motif de l'examen : suspicion de pneumopathie, fracture ?\n"
        "Résultats : Fracture de la 3e côte gauche. Pas de pneumothorax.\n"
        "CONCLUSION : Fracture costale. Pas de pneumothorax.",
        {PTX: A, "fracture": P, "pneumonia": None},
    ),
    "es": (
        "Motivo de consulta: descartar neumonía. Derrame pleural.\n"
        "Hallazgos: Fractura costal izquierda. Sin neumotórax.\n"
        "Impresión diagnóstica: Fractura costal.",
        {PTX: A, "fracture": P, "pneumonia": None, EFF: None},
    ),
    "nl": (
        "Klinische gegevens: val, pneumonie?\nVraagstelling: pleuravocht?\n"
        "Verslag: Fractuur van de 3. rib links. Geen pneumothorax.\n"
        "Conclusie: Ribfractuur links.",
        {PTX: A, "fracture": P, "pneumonia": None, EFF: None},
    ),
}


def _labels(text: str, language: str) -> Statuses:
    return label_text(text, language)


@pytest.mark.parametrize(
    ("language", "sentence", "finding", "status"),
    [
        (language, sentence, *TRIGGERS[kind])
        for language in SHIPPED
        for kind, sentences in SENTENCES[language]["triggers"].items()
        for sentence in sentences
    ],
)
def test_a_trigger_decides_the_status_of_its_finding(
    language: str, sentence: str, finding: str, status: Status | None
) -> None:
    assert _labels(sentence, language).get(finding) is status


@pytest.mark.parametrize("spelling", ["NFC", "NFD", "plain", "capitals"])
@pytest.mark.parametrize(
    ("language", "finding", "sentence"),
    [
        (language, finding, sentence)
        for language in SHIPPED
        for finding, sentences in SENTENCES[language]["findings"].items()
        for sentence in sentences
    ],
)
def test_every_finding_is_known_in_every_spelling(
    language: str, finding: str, sentence: str, spelling: str
) -> None:
    if spelling == "plain":
        sentence = "".join(c for c in unicodedata.normalize("NFD", sentence) if not unicodedata.combining(c))
    elif spelling == "capitals":
        sentence = sentence.upper()
    else:
        sentence = unicodedata.normalize(spelling, sentence)
    assert _labels(sentence, language).get(finding) is P


def test_every_trigger_and_every_finding_has_sentences_in_every_language() -> None:
    for language in SHIPPED:
        assert set(SENTENCES[language]["triggers"]) == set(TRIGGERS)
        assert set(SENTENCES[language]["findings"]) == set(VOCABULARY.names) - {NO_FINDING}


@pytest.mark.parametrize(
    ("language", "finding", "sentence"),
    [
        (language, finding, sentence)
        for language in SHIPPED
        for finding, sentences in SENTENCES[language]["normal"].items()
        for sentence in sentences
    ],
)
def test_what_is_called_normal_has_no_finding(language: str, finding: str, sentence: str) -> None:
    labels = _labels(sentence, language)
    assert labels.get(finding) is (P if finding == NO_FINDING else A)
    assert labels.get(NO_FINDING) is P


@pytest.mark.parametrize("language", SHIPPED)
def test_a_doubtful_sign_is_uncertain_and_other_things_are_no_findings(language: str) -> None:
    assert _labels(SENTENCES[language]["other"]["doubtful_effusion"], language).get(EFF) is U
    for sentence in SENTENCES[language]["other"]["no_findings"]:
        labels = _labels(sentence, language)
        assert not {EFF, "emphysema"} & set(labels)


@pytest.mark.parametrize("language", SHIPPED)
def test_a_report_is_split_at_its_headings_and_its_question_is_no_finding(language: str) -> None:
    text, expected = REPORTS[language]
    for spelled in (text, unicodedata.normalize("NFD", text), text.replace("\n", "\r\n")):
        report = parse_report("a", spelled)
        assert report.language == language
        assert report.section("findings")
        assert report.section("impression")
        labels = label_report(report)
        assert {finding: labels.get(finding) for finding in expected} == expected


@pytest.mark.parametrize("language", SHIPPED)
def test_a_table_has_phrases_for_all_that_the_rules_tell_apart(language: str) -> None:
    lexicon = lexicons()[language]
    assert lexicon.language == language
    claims = {meaning.assertion for _, meaning in lexicons()["en"].entries if isinstance(meaning, Trigger)}
    triggers = [meaning for _, meaning in lexicon.entries if isinstance(meaning, Trigger)]
    forward = {trigger.assertion for trigger in triggers if trigger.direction is Direction.FORWARD}
    assert forward == claims
    assert lexicon.headings
    assert lexicon.abbreviations


def test_abbreviations_and_ordinals_end_no_sentence() -> None:
    german = lexicon_of("de")
    assert german is not None
    text = "Z.n. Fraktur der 3. Rippe re. Kein Erguss."
    assert split_sentences("Z.n. Fraktur der 3. Rippe. Kein Erguss.", german) == [
        "Z.n. Fraktur der 3. Rippe.",
        "Kein Erguss.",
    ]
    assert _labels(text, "de").get("fracture") is None
    assert _labels(text, "de").get(EFF) is A


def test_modifiers_of_other_languages_are_not_read() -> None:
    for sentence in (
        "Kleiner Pleuraerguss links.",
        "Petit épanchement pleural gauche.",
        "Derrame pleural izquierdo.",
    ):
        (concept,) = concepts(sentence)
        assert (concept.finding, concept.status) == (EFF, P)
        assert (concept.side, concept.zone, concept.degree) == (None, None, None)


def test_the_words_that_are_counted_are_those_affirmed() -> None:
    report = parse_report(
        "a", "Kein Pneumothorax. Das Herz ist vergrößert und es zeigt sich ein Pleuraerguss."
    )
    words = affirmed_text(report).split()
    assert "pleuraerguss" in words
    assert not {"pneumothorax", "kein", "und", "ein"} & set(words)


def test_a_patients_story_in_a_note_without_sections_is_left_out() -> None:
    result = "45-jähriger Patient mit Pneumonie aufgenommen, Fieber. Die Röntgenaufnahme zeigt keinen Erguss."
    assert _labels(result, "de").get("pneumonia") is None
    assert _labels(result, "de").get(EFF) is A
