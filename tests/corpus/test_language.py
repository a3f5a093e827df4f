"""The language of a report, and the tables that a site adds."""

from pathlib import Path

import pytest

from corpus.errors import UsageError
from corpus.findings import Status
from corpus.language import detection as language
from corpus.language.detection import detect, lexicons
from corpus.language.labeler import label_report, label_sentence, label_study, label_text
from corpus.language.sections import parse_report, sentences, split_sentences
from corpus.records import Study
from corpus.settings import settings
from corpus.sources import open_source

P, A = Status.PRESENT, Status.ABSENT

IN = {
    "en": (
        "No acute disease.",
        "Clear lungs.",
        "Normal.",
        "Mediastinal contour normal.",
        "Effusion.",
        "XXXX.",
        "CHF",
        "Sternotomy.",
        "Stable.",
        "Atrial septal occluder artifact.",
        "1. No effusion 2. Edema",
        "",
        "No pneumothorax. Read by Dr. Łukasz Wójcik",
        "Marina Kovačević, MD. No pneumothorax.",
        "Effusion. Signed: Анна Иванова",
        "Normal chest. Patient: Jean-Pierre de la Tour",
        "Dr. de la Cruz notified. Opacity.",
        "No effusion. Dr. Anna de Vries informed.",
        "Status post CABG, stabile sternum",
    ),
    "de": (
        "Kein Pneumothorax.",
        "Unauffälliger Befund.",
        "Herz nicht verbreitert.",
        "KEIN ERGUSS",
        "Pleuraerguss links.",
        "Das Herz ist normal groß. Keine pulmonalvenöse Stauung. Kein Erguss.",
        "Unterlappenatelektase rechts.",
        "Dr. Łukasz Wójcik: Kein Erguss.",
        "Kein Erguss. Dr. Marina Kovačević",
    ),
    "fr": (
        "Pas de pneumothorax.",
        "Absence d'épanchement pleural.",
        "Coeur de taille normale.",
        "Opacité du lobe inférieur droit en faveur d'une pneumopathie.",
        "EPANCHEMENT PLEURAL GAUCHE",
        "Patient: Jean-Pierre de la Tour. Épanchement pleural droit.",
    ),
    "es": (
        "Sin neumotórax.",
        "Derrame pleural izquierdo.",
        "No se observa derrame pleural.",
        "Sin hallazgos patológicos.",
        "Silueta cardiaca normal.",
    ),
    "nl": (
        "Geen pneumothorax.",
        "Pleuravocht links.",
        "Hart niet vergroot.",
        "Normale thoraxfoto.",
        "Er is geen pneumothorax zichtbaar. Gering pleuravocht rechts.",
        "Onderkwabinfiltraat links.",
    ),
    "it": ("Non versamento pleurico.", "Assenza di pneumotorace.", "Ombra cardiaca nei limiti."),
    "pt": ("Sem derrame pleural.", "Não há sinais de consolidação pulmonar. Derrame pleural à esquerda."),
    "pl": ("Bez odmy opłucnowej.", "Serce niepowiększone. Pola płucne bez zmian ogniskowych."),
    "sv": ("Inga infiltrat. Ingen pleuravätska.", "Hjärtat är normalstort."),
    "tr": ("Pnömotoraks izlenmedi.", "Kalp boyutları normaldir. Akciğer parankimi doğaldır."),
    "ru": ("Пневмоторакс не выявлен.", "Жидкость в левой плевральной полости."),
    "el": ("Δεν παρατηρείται πνευμοθώρακας.",),
    "zh": ("未见气胸。", "左侧胸腔积液。"),
    "ja": ("気胸は認めません。", "左胸水を認める。"),
    "ko": ("기흉 소견 없음.",),
    "ar": ("لا يوجد استرواح صدري.",),
}
UNREAD = sorted(set(IN) - {"en", "de", "fr", "es", "nl"})

ITALIAN = """
name = "Italian"
endings = ["i", "o", "a", "e"]
common = ["di", "del", "nel", "segni", "con"]

[findings]
pneumothorax = ["pneumotorace|pnx"]
pleural_effusion = ["versamento|versamenti pleuric*?"]

[absent]
forward = ["non;assenza di;senza"]

[headings]
findings = ["Referto"]
impression = ["Conclusioni"]
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Writes a site's tables, read from then on; afterwards those that are shipped are."""

    def write(text: str, name: str = "it.toml") -> None:
        (tmp_path / name).write_text(text, "utf-8")
        monkeypatch.setenv("SIMILARITY_LEXICONS", str(tmp_path))
        settings.cache_clear()
        language.forget()

    yield write
    monkeypatch.undo()
    settings.cache_clear()
    language.forget()


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in IN.items() for text in texts])
def test_the_language_of_a_report_is_detected_by_its_words(code: str, text: str) -> None:
    assert detect(text) == code
    assert detect(text) == code  # the same text, the same language


@pytest.mark.parametrize(("code", "text"), [(code, text) for code in UNREAD for text in IN[code]])
def test_a_report_in_a_language_without_a_lexicon_carries_no_findings(code: str, text: str) -> None:
    report = parse_report("a", text)
    assert (report.language, report.findings_read) == (code, False)
    assert label_report(report) == {}
    study = label_study(Study("a", "a", "manifest", report=report, findings={"edema": P}))
    assert study.findings["edema"] is P  # what a table says of it stands
    assert "no_finding" not in study.findings
    assert sentences(report)  # it is searched by its sentences' vectors all the same


def test_english_headings_over_another_language_do_not_hide_it() -> None:
    report = parse_report(
        "a", "FINDINGS: Kein Pneumothorax. Erguss links.\nIMPRESSION: Kleiner Erguss links."
    )
    assert report.language == "de"
    labels = label_report(report)
    assert (labels["pneumothorax"], labels["pleural_effusion"]) == (A, P)


def test_a_sentence_in_another_language_is_read_in_its_own() -> None:
    mixed = "The heart is normal in size. The lungs are clear. Kein Pneumothorax. Pas d'épanchement pleural."
    report = parse_report("a", mixed)
    assert report.language == "en"
    labels = label_report(report)
    assert (labels["pneumothorax"], labels["pleural_effusion"]) == (A, A)


@pytest.mark.parametrize(
    "no", ["non", "ne", "nej", "nei", "nee", "Nein", "nie", "não", "nem", "ikke", "geen", "ei", "нет", "yok"]
)
def test_a_foreign_no_behind_an_english_label_asserts_no_finding(no: str) -> None:
    for text in (f"Pneumothorax: {no}", f"The lungs are clear. Pneumothorax: {no}."):
        assert label_text(text).get("pneumothorax") in (A, None)


def test_one_language_can_be_set_for_every_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_REPORT_LANGUAGE", "de")
    settings.cache_clear()
    try:
        assert parse_report("a", "Pneumothorax.").language == "de"
        assert parse_report("a", "No pneumothorax.").language == "de"
    finally:
        monkeypatch.undo()
        settings.cache_clear()


@pytest.mark.parametrize("wrong", ["german", "DE", "", "d"])
def test_a_language_that_is_no_code_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("SIMILARITY_REPORT_LANGUAGE", wrong)
    settings.cache_clear()
    try:
        with pytest.raises(UsageError, match="SIMILARITY_REPORT_LANGUAGE"):
            settings()
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_a_sentence_of_a_known_report_is_read_in_that_language() -> None:
    assert label_sentence("Pneumothorax.", "en")["pneumothorax"] is P
    assert label_sentence("Pneumothorax.", "it") == {}


def test_wide_stops_end_a_sentence() -> None:
    assert split_sentences("未见气胸。左侧胸腔积液。") == ["未见气胸。", "左侧胸腔积液。"]


def test_a_site_adds_a_language_by_a_table(table) -> None:  # type: ignore[no-untyped-def]
    assert label_text("Non versamento pleurico.") == {}
    table(ITALIAN)
    labels = label_text("Referto: Non pneumotorace. Versamento pleurico destro.\nConclusioni: Versamento.")
    assert (labels["pneumothorax"], labels["pleural_effusion"]) == (A, P)
    assert parse_report("a", "Referto: Non pneumotorace.").findings_read


def test_a_site_adds_words_to_a_language_that_is_there(table) -> None:  # type: ignore[no-untyped-def]
    table('[findings]\npneumothorax = ["luftbrust"]\n', "de.toml")
    assert label_text("Keine Luftbrust.", "de")["pneumothorax"] is A
    assert label_text("Kein Pneumothorax.", "de")["pneumothorax"] is A
    table('[findings]\npneumothorax = ["airchest"]\n', "en.toml")
    assert label_text("No airchest.", "en")["pneumothorax"] is A
    assert label_text("No pneumothorax.", "en")["pneumothorax"] is A


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = = 1\n", "it.toml.*line 1"),
        ("\n[finding]\n", "line 2, key finding: .*findings"),
        (
            '[findings]\nedema = ["edema"]\nefusion = ["x"]\n',
            r"line 3, key findings.efusion: .*pleural_effusion",
        ),
        ("[findings]\nedema = 3\n", "line 2, key findings.edema: a list of texts"),
        ('[absent]\nforward = ["non"]\nbefore = ["x"]\n', "line 3, key absent.before"),
        ('[absent]\nforward = ["{sehen}"]\n', "line 2, key absent.forward: {sehen} names no group"),
        ('[absent]\nforward = ["d\'edema"]\n', "line 2, key absent.forward: .*single word"),
        ('[headings]\nreading = ["Referto"]\n', "line 2, key headings.reading"),
        ('findings = "x"\n', "line 1, key findings: a table"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_file_line_and_key(table, text: str, says: str) -> None:  # type: ignore[no-untyped-def]
    table(text)
    with pytest.raises(UsageError, match=says) as caught:
        lexicons()
    assert "\n" not in str(caught.value)


def test_a_table_is_named_by_a_language_and_a_folder_holds_one(
    table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    table(ITALIAN, "italian_words.toml")
    with pytest.raises(UsageError, match="ISO 639-1"):
        lexicons()
    for folder, says in ((tmp_path / "none", "cannot be read"), (tmp_path / "empty", "holds no table")):
        if folder.name == "empty":
            folder.mkdir()
        monkeypatch.setenv("SIMILARITY_LEXICONS", str(folder))
        settings.cache_clear()
        language.forget()
        with pytest.raises(UsageError, match=says):
            lexicons()


@pytest.mark.real_data
def test_every_english_report_and_sentence_is_english(data: Path) -> None:
    for source in (f"openi:{data / 'openi'}", f"covid-chestxray:{data / 'covid-chestxray'}"):
        reports = [s.report for s in open_source(source).studies(lambda _: None) if s.report is not None]
        texts = [report.described for report in reports]
        expected = {sentence for report in reports for sentence in sentences(report)}
        wrong = [text for text in (*texts, *expected) if detect(text) != "en"]
        assert len(wrong) <= 0.001 * (len(texts) + len(expected))
        assert not [text for text in texts if detect(text) != "en"]
