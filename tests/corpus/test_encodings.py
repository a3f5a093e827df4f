"""Text is decoded in its own encoding, one stray byte damages one byte, and a detected encoding is
reported.
"""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import UsageError
from corpus.notices import Notice
from corpus.records import Problem, Study
from corpus.sources import open_source
from corpus.tables import TableOptions
from corpus.tables.encodings import decode, parse_encoding
from corpus.tables.reader import read_table, read_text

SENTENCES = {
    "cp932": ["右下肺野に浸潤影を認める。胸水なし。", "心拡大あり。", "胸部X線写真。①肺野に異常所見なし。"],
    "euc_jp": ["右下肺野に浸潤影を認める。胸水なし。", "心拡大あり。"],
    "iso2022_jp": ["右下肺野に浸潤影を認める。胸水なし。"],
    "gb18030": ["双肺纹理清晰，未见明显异常。", "右侧胸腔积液，左肺下叶炎症。", "心影增大。", "肺炎"],
    "big5": ["雙側肺野清晰，無明顯異常。", "右側肋膜積液，左下肺葉發炎。", "心臟擴大。"],
    "cp949": ["양측 폐야는 깨끗하다. 흉수 없음.", "우하엽에 폐렴 소견이 있다.", "심비대", "정상"],
    "cp1251": ["Легкие без очаговых изменений.", "ПРАВОСТОРОННИЙ ПЛЕВРАЛЬНЫЙ ВЫПОТ.", "Пневмония", "Норма"],
    "koi8_r": ["Легкие без очаговых и инфильтративных изменений."],
    "cp1252": [
        "Herz nicht vergrößert, kein Erguß.", "Größe", "Épanchement pleural à droite, opacité déjà présente.",
        "Señal pequeña, derrame pleural según técnica.", "the patient’s heart", "37 °C", "ü",
        "®© ¥", "½ ¼", "¹ ²", "¾ of it", "™", "¿Hay derrame?", "¡Si!", "1º", "2ª", "£5", "±±", "··",
        "ÄÖÜ", "GRÖSSE ÖDEM ÜBER", "2,ÿ", "‰ † ‡", "OPACITÉ DÉJÀ PRÉSENTE",
    ],
    "cp1250": [
        "Płuca bez zmian ogniskowych. Serce powiększone.", "Výpotek vpravo, srdce zvětšené, plíce čisté.",
        "Płuca bez zmian. Nie stwierdza się odmy opłucnowej.",
        "Płuca bez zmian ogniskowych. Serce niepowiększone. Wątroba żółta.",
    ],
    "mac_roman": ["Épanchement pleural à droite, opacité déjà présente.", "Opacité à gauche."],
    "cp1255": ["אין תפליט פלאורלי. הלב תקין."],
    "cp1256": ["لا يوجد استرواح صدري. القلب طبيعي."],
    "cp874": ["ไม่พบน้ำในช่องเยื่อหุ้มปอด หัวใจปกติ"],
    "cp1253": ["Οι πνεύμονες είναι καθαροί. Πλευριτική συλλογή δεξιά."],
    "cp1254": ["Kalp büyümüş, sağda plevral efüzyon, akciğerler doğal görünümde."],
}  # fmt: skip
NAMED = [(encoding, sentence) for encoding, sentences in SENTENCES.items() for sentence in sentences]


def write(folder: Path, content: bytes, name: str = "m.csv") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def read(path: Path, encoding: str | None = None) -> tuple[list[Study], list[Problem], list[Notice]]:
    problems: list[Problem] = []
    notices: list[Notice] = []
    source = open_source(f"manifest:{path}", tables=TableOptions(encoding, on_notice=notices.append))
    return list(source.studies(problems.append)), problems, notices


@pytest.mark.parametrize("rows", [1, 30])
@pytest.mark.parametrize(("encoding", "sentence"), NAMED)
def test_a_table_is_read_in_the_encoding_it_was_written_in(encoding: str, sentence: str, rows: int) -> None:
    text = "study_id,report\n" + "".join(f"S{row},{sentence}\n" for row in range(rows))
    decoded = decode(text.encode(encoding))
    assert decoded.text == text
    assert decoded.stray_lines == ()


@pytest.mark.parametrize(("encoding", "sentence"), [n for n in NAMED if n[0] not in ("koi8_r", "cp1253")])
def test_a_report_file_is_read_in_the_encoding_it_was_written_in(
    tmp_path: Path, encoding: str, sentence: str
) -> None:
    assert read_text(write(tmp_path, sentence.encode(encoding), "r.txt")) == sentence


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("sentence", ["No effusion.", "双肺纹理清晰，未见明显异常。", "Größe"])
def test_utf_16_without_a_mark_is_known_by_its_zero_bytes(encoding: str, sentence: str) -> None:
    text = f"study_id,report\n1,{sentence}\n"
    assert decode(text.encode(encoding)).text == text


@pytest.mark.parametrize("report", ["Norm\0al heart", '"Normal heart"\0', "Normal heart\0", "\0Normal heart"])
def test_a_zero_byte_in_a_table_makes_it_no_utf_16(tmp_path: Path, report: str) -> None:
    rows = f"study_id,subject_id,report\n1,P,{report}\n2,P,Größe\n"
    for encoding in ("utf-8", "cp1252"):
        studies, problems, _ = read(write(tmp_path, rows.encode(encoding)))
        texts = [study.report.text for study in studies if study.report is not None]
        assert (texts, problems) == (["Normal heart", "Größe"], [])


def test_one_stray_byte_spoils_no_other_letter(tmp_path: Path) -> None:
    rows = (
        "study_id,subject_id,report\nS1,P1,Größe unverändert.\nS2,P2,the patient~s heart\nS3,P3,Übersicht\n"
    )
    studies, problems, notices = read(write(tmp_path, rows.encode().replace(b"~", b"\x92")))
    texts = [study.report.text for study in studies if study.report is not None]
    assert texts == ["Größe unverändert.", "the patient’s heart", "Übersicht"]
    assert [(problem.item_id, problem.state) for problem in problems] == [("manifest:m.csv@line3", "skipped")]
    assert not notices, "the table is UTF-8"


def test_names_that_differ_in_a_stray_byte_stay_two(tmp_path: Path) -> None:
    rows = "study_id,subject_id,report\nÄ1,ÄÖÜ,Clear.\nÄ2,M~ller,Clear.\nÄ3,M^ller,Clear.\n"
    content = rows.encode().replace(b"~", b"\xfc").replace(b"^", b"\x81")
    studies, problems, _ = read(write(tmp_path, content))
    assert len({study.subject_id for study in studies}) == 3
    assert len(problems) == 2


def test_a_detected_encoding_other_than_utf_8_is_reported(tmp_path: Path) -> None:
    rows = "study_id,subject_id,report\n1,1,右下肺野に浸潤影を認める。\n"
    _, _, notices = read(write(tmp_path, rows.encode("cp932")))
    assert [(notice.kind, notice.table) for notice in notices] == [("encoding", "m.csv")]
    assert "Shift-JIS" in notices[0].text
    assert read(write(tmp_path, rows.encode("utf-8-sig")))[2] == []


def test_an_encoding_that_is_named_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "study_id,subject_id,report\n1,1,Größe\n".encode("cp850"))
    studies, problems, notices = read(path, parse_encoding("cp850"))
    assert studies[0].report is not None
    assert studies[0].report.text == "Größe"
    assert not problems
    assert not notices


def test_report_files_are_read_in_the_encoding_that_is_named(tmp_path: Path) -> None:
    write(tmp_path, "Größe".encode("cp850"), "r.txt")
    path = write(tmp_path, b"study_id,report_file\n1,r.txt\n")
    studies, _, _ = read(path, "cp850")
    assert studies[0].report is not None
    assert studies[0].report.text == "Größe"


@pytest.mark.parametrize(
    ("name", "python"),
    [("Shift-JIS", "cp932"), ("GBK", "gb18030"), ("EUC-KR", "cp949"), ("windows-1251", "cp1251"),
     ("UTF-8", "utf-8"), ("utf-16", "utf-16"), ("latin1", "iso8859-1")],
)  # fmt: skip
def test_encodings_are_known_by_their_usual_names(name: str, python: str) -> None:
    assert parse_encoding(name) == python


@pytest.mark.parametrize(
    ("name", "near"), [("shif-jis", "shift_jis"), ("cp1521", "cp125"), ("base64", "write")]
)
def test_an_unknown_encoding_is_refused_naming_near_ones(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=near):
        parse_encoding(name)


@given(st.binary(max_size=200), st.sampled_from([None, "cp932", "cp1252", "utf-16", "ascii"]))
def test_any_bytes_decode_to_some_text(content: bytes, encoding: str | None) -> None:
    assert isinstance(decode(content, encoding).text, str)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_utf_8_is_read_as_utf_8(text: str) -> None:
    decoded = decode(text.encode())
    assert decoded.text == text.removeprefix("\ufeff") or "\x1b" in text
    assert decoded.encoding == "utf-8"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_value_is_the_same_however_its_accents_were_typed(tmp_path: Path, form: str) -> None:
    text = unicodedata.normalize(
        form, "study_id,subject_id,report,Gerät,diagnosis\nä,ö,Clear.,Röntgen,Ödem\n"
    )
    studies, _, _ = read(write(tmp_path, text.encode()))
    study = studies[0]
    assert (study.study_id, study.subject_id, study.diagnosis) == ("manifest:ä", "manifest:ö", "Ödem")
    assert study.attributes == {"Gerät": "Röntgen"}


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_other_tables_are_composed_too(tmp_path: Path, kind: str) -> None:
    import polars as pl

    frame = pl.DataFrame({"a\u0308": ["o\u0308", None]})
    path = tmp_path / f"t.{kind}"
    frame.write_parquet(path) if kind == "parquet" else frame.write_ndjson(path)
    assert read_table(path).frame.rows(named=True) == [{"ä": "ö"}, {"ä": None}]


def test_a_line_of_json_may_hold_any_line_break_of_unicode(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": "one\u2028two\u0085three"}\n{"a": "x"}\n'.encode(), "t.jsonl")
    assert read_table(path).frame["a"].to_list() == ["one\u2028two\u0085three", "x"]
