"""A name after a title or a label is taken out in every form that names have, and nothing behind it."""

import unicodedata
from collections.abc import Callable

import pytest

from corpus.language.deidentify import BLANK, deidentify, find_identifiers

TITLES = """
Dr.;Dr;Prof.;Mr.;Mrs.;Ms.;Miss;Sir;Rev.;Sister;Nurse;Professor;Doctor;Prof. Dr.;Prof. Dr. med.
Dr. med.;Dr. med. dent.;Prof. Dr. med. dent. h.c.;Dr. rer. nat.;Priv.-Doz. Dr.;PD Dr.
Univ.-Prof. Dr.;Herr;Frau;Herrn Dr.;Mme;Dra.;Sra.;Dott.;Mevr.;Dhr.;Assoc. Prof.;Prof. em.
"""

NAMES = """
Weber;Weber-Schmidt;O'Neil;O’Neil;McDonald;Mc Donald;MacLeod;von Weber;van Dijk;van den Berg
van der Waals;van de Velde;de Vries;de la Cruz;de los Santos;d'Angelo;D'Angelo;d’Angelo
al-Rashid;Al-Rashid;el-Sayed;El Sayed;bin Salman;ibn Sina;ten Cate;ter Horst;St. Clair
St. John-Smith;Le Roux;La Rosa;Di Matteo;Da Silva;dos Santos;zu Salm;von und zu Guttenberg
zur Hausen;vom Stein;della Rovere;van 't Hoff;J. Weber;J. van den Berg;A.-M. de la Cruz
J.P. de Vries;JP de Vries;John A. Smith;John Smith;Jan van den Berg;María de la Cruz López
José Müller;Łukasz Żak;Šimon Čech;İbrahim Öztürk;Иванов;Анна Иванова;И. И. Иванов;Παπαδόπουλος
山田太郎;山田 太郎;王小明;김철수;محمد;محمد علي;כהן;राज शर्मा;สมชาย
"""


def _listed(text: str) -> list[str]:
    return text.strip().replace("\n", ";").split(";")


@pytest.mark.parametrize("title", _listed(TITLES))
def test_a_titled_name_is_taken_out_whole(title: str) -> None:
    wrong = {}
    for name in _listed(NAMES):
        for form in ("NFC", "NFD"):
            text = unicodedata.normalize(form, f"Discussed with {title} {name} at the desk. Left effusion.")
            left = deidentify(text)
            if left != f"Discussed with {title} XXXX at the desk. Left effusion.":
                wrong[text] = left
    assert not wrong


LABELS = """
Patient:;Radiologist:;Dictated by:;Reported by:;Electronically signed by:;Attending:
Referring physician:;Technologist:;Patient name:;Ordering provider:;Read by:
Reporting radiologist:;Requested by:;Ordered by:;Referred by:;Consultant:;Radiographer:
Verified by:;Resident:;Fellow:;Surgeon:;GP:;Signed:;Transcribed by:;Copy to:
Dictating physician:;Authenticated by:;Attending radiologist:;Referrer:;Typed by:;PCP:
"""


@pytest.mark.parametrize("label", _listed(LABELS))
def test_a_name_behind_a_label_is_taken_out_whole(label: str) -> None:
    wrong = {}
    for name in _listed(NAMES):
        for text in (f"{label} {name}\nLeft effusion.", f"{label} Dr. {name}."):
            left = deidentify(text)
            if left != text.replace(name, BLANK):
                wrong[text] = left
    assert not wrong


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Patient: de la Cruz, Maria", "Patient: XXXX"),
        ("Patient: VAN DEN BERG, JAN", "Patient: XXXX"),
        ("Radiologist: J. van den Berg, M.D.", "Radiologist: XXXX, M.D."),
        ("J. van den Berg, M.D.", "XXXX, M.D."),
        ("Reported by van den Berg", "Reported by XXXX"),
        ("Reported by Jan van den Berg on call", "Reported by XXXX on call"),
        ("Dictated by Anna-Maria von Weber.", "Dictated by XXXX."),
        ("Dr Weber and Dr Smith", "Dr XXXX and Dr XXXX"),
        ("Drs. Weber and Smith", "Drs. XXXX and XXXX"),
        ("Drs. Weber, van den Berg and Smith agree.", "Drs. XXXX, XXXX and XXXX agree."),
        ("Drs. Weber & Smith", "Drs. XXXX & XXXX"),
        ("Drs. Weber/Smith", "Drs. XXXX/XXXX"),
        ("cc: Dr. Weber, Dr. Smith", "cc: Dr. XXXX, Dr. XXXX"),
        ("Mr. and Mrs. Weber", "Mr. and Mrs. XXXX"),
        ("DR. WEBER WAS NOTIFIED", "DR. XXXX WAS NOTIFIED"),
        ("PROF. DR. MED. WEBER AGREES", "PROF. DR. MED. XXXX AGREES"),
        ("DISCUSSED WITH DR. J. VAN DEN BERG AT THE DESK", "DISCUSSED WITH DR. XXXX AT THE DESK"),
        ("PATIENT: O'NEIL, JOHN", "PATIENT: XXXX"),
        ("discussed with dr. weber at noon", "discussed with dr. XXXX at noon"),
        ("discussed with dr. van den berg.", "discussed with dr. XXXX."),
        ("mr. smith is rotated", "mr. XXXX is rotated"),
        ("Dr. Will Smith was called", "Dr. XXXX was called"),
        ("Dr.Weber was called", "Dr.XXXX was called"),
        ("Dr. Weber's office was called", "Dr. XXXX office was called"),
        ("Seen by Dr. John\nvon Weber.", "Seen by Dr. XXXX."),
        ("\u0434-\u0440 \u0418\u0432\u0430\u043d\u043e\u0432", "\u0434-\u0440 XXXX"),
        ("\u0394\u03c1. \u03a0\u03b1\u03c0\u03c0\u03ac\u03c2", "\u0394\u03c1. XXXX"),
        ("Dr A Smith notified", "Dr XXXX notified"),
        ("Dr. A Smith", "Dr. XXXX"),
        ("Mr A Patel", "Mr XXXX"),
        ("Dr. A B Smith", "Dr. XXXX"),
        ("Dr. J A Smith", "Dr. XXXX"),
        ("Radiologist: A Smith", "Radiologist: XXXX"),
        ("Dictated by A Smith", "Dictated by XXXX"),
        ("Dr. Le", "Dr. XXXX"),
        ("Dr. Do", "Dr. XXXX"),
        ("Dr. Das", "Dr. XXXX"),
        ("Dr. La", "Dr. XXXX"),
        ("Dr. Du", "Dr. XXXX"),
        ("Dr. Di", "Dr. XXXX"),
        ("Dr. Al", "Dr. XXXX"),
        ("Dr. Bin", "Dr. XXXX"),
        ("Dr. Von notified", "Dr. XXXX notified"),
        ("Radiologist: Le", "Radiologist: XXXX"),
        ("Dr. Karen Small notified", "Dr. XXXX notified"),
        ("Dr. Karen Page was", "Dr. XXXX was"),
        ("Dr. Karen Head", "Dr. XXXX"),
        ("Dr. John Read", "Dr. XXXX"),
        ("Karen Page, MD", "XXXX, MD"),
        ("Patient: Small, John", "Patient: XXXX"),
        ("Patient: Page, Karen", "Patient: XXXX"),
        ("Patient: He, Li", "Patient: XXXX"),
        ("Radiologist: Page", "Radiologist: XXXX"),
        ("Radiologist: An Wang", "Radiologist: XXXX"),
        ("Dr. Li An Wang", "Dr. XXXX"),
        ("Dr. Xiao He", "Dr. XXXX"),
        ("Dr. Nguyễn Văn An", "Dr. XXXX"),
        ("Dr. Brain", "Dr. XXXX"),
        ("Dr. Back", "Dr. XXXX"),
        ("Dr. Juan Carlos de la Cruz Perez", "Dr. XXXX"),
        ("Dr. Maria del Carmen Garcia Lopez", "Dr. XXXX"),
        ("Dr. Anna Maria Louisa Weber", "Dr. XXXX"),
        ("Mr. Khalid bin Abdul Aziz Al Saud", "Mr. XXXX"),
        ("Dr. in 't Veld", "Dr. XXXX"),
        ("Dr. van't Hof", "Dr. XXXX"),
        ("Dr. v. Weber", "Dr. XXXX"),
        ("Dr. v.d. Berg", "Dr. XXXX"),
        ("Dr. vd Berg", "Dr. XXXX"),
        ("Dr. deLaCruz", "Dr. XXXX"),
        ("Dr's Smith and Jones", "Dr's XXXX and XXXX"),
        ("mrs. o'brien", "mrs. XXXX"),
        ("ms. weber", "ms. XXXX"),
        ("Radiologist: john smith", "Radiologist: XXXX"),
        ("Patient name - Weber", "Patient name - XXXX"),
        ("Доктор Иванов", "Доктор XXXX"),
        ("Г-н Петров", "Г-н XXXX"),
        ("山田先生", "XXXX先生"),
        ("Dictated by: van der Meer/de Vries", "Dictated by: XXXX"),
        ("Dr. Chen, Y. L.", "Dr. XXXX."),
        ("Patient: Smith, John A.", "Patient: XXXX."),
        ("cc: J. Smith", "cc: XXXX"),
        ("cc: Smith, John", "cc: XXXX"),
        ("cc: van den Berg", "cc: XXXX"),
        ("John Smith, PA", "XXXX, PA"),
        ("Reported: Smith, John", "Reported: XXXX"),
        ("cc: Müller", "cc: XXXX"),
        ("cc: O'Neil", "cc: XXXX"),
        ("CC: Weber, J.", "CC: XXXX."),
        ("Dr. Weber, M.D.", "Dr. XXXX, M.D."),
        ("Dr. White", "Dr. XXXX"),
        ("Dr. John White was called", "Dr. XXXX was called"),
        ("DR. KAREN SMALL NOTIFIED", "DR. XXXX NOTIFIED"),
        ("Radiologist - J. Weber", "Radiologist - XXXX"),
        ("Patient Name\tWeber, Hans", "Patient Name\tXXXX"),
        ("Drs. A Smith and B Jones", "Drs. XXXX and XXXX"),
    ],
)
def test_names_in_every_company_are_taken_out(text: str, left: str) -> None:
    assert deidentify(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Dr. Smith No effusion", "Dr. XXXX No effusion"),
        ("Dr. Smith Heart size is normal.", "Dr. XXXX Heart size is normal."),
        ("Dr. Smith Pleural effusion is seen.", "Dr. XXXX Pleural effusion is seen."),
        ("discussed with Dr. Weber. Left effusion.", "discussed with Dr. XXXX. Left effusion."),
        ("discussed with Dr. van den Berg. Left effusion.", "discussed with Dr. XXXX. Left effusion."),
        (
            "Discussed with Dr. Weber, Left effusion is known.",
            "Discussed with Dr. XXXX, Left effusion is known.",
        ),
        ("Radiologist: Weber\nFINDINGS: Clear.", "Radiologist: XXXX\nFINDINGS: Clear."),
        ("Radiologist: Jan Weber\nHeart normal.", "Radiologist: XXXX\nHeart normal."),
        ("DR. WEBER CARDIOMEGALY IS SEEN", "DR. XXXX CARDIOMEGALY IS SEEN"),
        ("DR. WEBER CALLED AND AGREES", "DR. XXXX CALLED AND AGREES"),
        ("Dr. Smith Emphysema noted", "Dr. XXXX Emphysema noted"),
        ("Dr. Smith Small effusion", "Dr. XXXX Small effusion"),
        ("Dr. Smith A nodule", "Dr. XXXX A nodule"),
        ("DR. SMITH A NODULE IS SEEN", "DR. XXXX A NODULE IS SEEN"),
        ("Dr. Smith An opacity is new", "Dr. XXXX An opacity is new"),
        ("Dr. Smith Head CT is normal", "Dr. XXXX Head CT is normal"),
        ("Dr. Smith R lung is clear", "Dr. XXXX R lung is clear"),
        ("DR. SMITH LARGE EFFUSION", "DR. XXXX LARGE EFFUSION"),
    ],
)
def test_what_stands_behind_a_name_stays(text: str, left: str) -> None:
    assert deidentify(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "Patient: has effusion",
        "Patient: 54-year-old male with cough",
        "Patient: Supine.",
        "Patient: Male, 54 years",
        "Patient: No acute distress",
        "Patient: The patient is rotated.",
        "Dr. was called",
        "The dr. notified us, the dr. on call agreed.",
        "Doctor was notified. Nurse was told.",
        "Nurse Practitioner was told.",
        "St. Jude valve",
        "van de Graaff generator, de novo effusion",
        "MR Angiography and MR Brain were advised, DR Chest PA.",
        "MR IMAGING OF THE CHEST",
        "Sister Mary Joseph nodule",
        "We miss small nodules. Ms is clear.",
        "A 14 Fr. Foley catheter.",
        "20 cc: Contrast was given.",
        "Drain of 10 cc. Left effusion.",
        "Swan-Ganz, von Willebrand, de Quervain, Di George.",
        "Discussed with the team. Reported by telephone. Signed electronically.",
        "Read by the resident and the attending: no effusion.",
        "Dr. XXXX and dr. xxxx at XXXX",
        "Technologist: Portable film. Attending: see below.",
        "Reported by: Radiology Department",
        "Consultant: Please correlate.",
        "CC: SOB",
        "CC: CP",
        "CC: Hypoxia",
        "CC: Cough",
        "cc: Dyspnea",
        "READ: BIBASILAR SCARRING",
        "REPORTED: ILD CHANGES",
        "Interpreted: Hyperinflated Lungs",
        "Nurse Call",
        "Referred by General Practice",
        "Ordered by Urgent Care",
        "Ordered: CTA Chest",
        "Requested: CT Thorax",
        "Reported: Hilar Lymphadenopathy",
        "Read: Kerley lines",
        "Thorax, PA and lateral",
        "Sternum, PA",
        "CXR, PA and lateral",
        "XR CHEST, PA",
        "Emphysema, PA view",
        "COPD, DO NOT RESUSCITATE",
        "30 ms. weber",
        "Patient: Elderly Man",
        "Name: Nasogastric Tube",
        "担当先生, 患者様",
    ],
)
def test_words_that_are_no_name_stay(text: str) -> None:
    assert deidentify(text) == text


HOSTILE: dict[str, Callable[[int], str]] = {
    "titles": lambda n: "Dr. " * (n // 4),
    "titles run together": lambda n: "Dr.med." * (n // 7),
    "initials": lambda n: "Dr. " + "A." * (n // 2),
    "particles": lambda n: "Dr. " + "van " * (n // 4),
    "capitals": lambda n: "Weber " * (n // 6),
    "a long word": lambda n: "Dr. W" + "e" * n,
    "hyphens": lambda n: "Dr. " + "W-" * (n // 2),
    "a list": lambda n: "Drs. Weber" + ", Weber" * (n // 7),
    "labels": lambda n: "cc: " * (n // 4),
    "particles in capitals": lambda n: "Van De La " * (n // 10),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_any_text_is_searched_in_time_that_grows_with_it(kind: str) -> None:
    # What grows faster than the text would take hours here.
    text = HOSTILE[kind](300_000)
    ends = [0, *(span.end for span in find_identifiers(text))]
    assert ends == sorted(ends)
    assert BLANK not in text
