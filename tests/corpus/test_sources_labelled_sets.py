"""CheXpert and MIMIC-CXR in ten rows: every label keeps its meaning, and nothing is lost without a word."""

import gzip
from pathlib import Path

import pytest

from corpus.errors import CorpusError
from corpus.findings import Status, status_lists
from corpus.language.labeler import label_study
from corpus.records import Problem, Study
from corpus.sources import open_source
from corpus.sources.chexpert import LABELS
from corpus.tables.reader import read_table

P, A, U = Status.PRESENT, Status.ABSENT, Status.UNCERTAIN
HEADER = ",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)) + "\n"


def labels(**result: str) -> str:
    """The fourteen cells of a row; a missing label is blank."""
    return ",".join(result.get(label.replace(" ", "_"), "") for label in LABELS)


def read(spec: str) -> tuple[dict[str, Study], list[Problem]]:
    problems: list[Problem] = []
    source = open_source(spec)
    studies = list(source.studies(problems.append))
    assert studies == list(source.studies(lambda problem: None)), "read twice with equal results"
    ids = [study.study_id for study in studies]
    items = [image.item_id for study in studies for image in study.images]
    assert len(ids) == len(set(ids))
    assert len(items) == len(set(items))
    return {study.study_id: study for study in studies}, problems


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# chexpert

TRAIN = [
    "patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,"
    + labels(No_Finding="1.0", Support_Devices="1.0"),
    "patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,"
    + labels(Lung_Opacity="-1.0", Pleural_Effusion="0.0", Fracture="1.0", Consolidation="-1.0"),
    "patient00002/study1/view1_frontal.jpg,Female,83,Frontal,PA,"
    + labels(Edema="1.0", Pneumothorax="0.0", Pneumonia="-1.0"),
    "patient00002/study1/view2_lateral.jpg,Female,83,Lateral,,"
    + labels(Edema="1.0", Pneumothorax="0.0", Pneumonia="-1.0"),
    "patient00003/study1/view1_frontal.jpg,Male,41,Frontal,AP," + labels(Edema="1.0"),
    "patient00004/study1/view1_frontal.jpg,Unknown,0,Frontal,PA," + labels(Cardiomegaly="2.0"),
    "patient00005/study1/view1_frontal.jpg,Male,411,Frontal,PA," + labels(Atelectasis="maybe", Edema="0"),
]
VALID = ["patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP," + labels(Edema="1.0", Pneumonia="0.0")]


def chexpert(
    tmp_path: Path, radiograph: bytes, name: str = "CheXpert-v1.0-small", lacks: str = "patient00003"
) -> Path:
    root = tmp_path / name
    for table, rows in (("train", TRAIN), ("valid", VALID)):
        write(root / f"{table}.csv", HEADER + "".join(f"{name}/{table}/{row}\n" for row in rows))
        for row in rows:
            if lacks not in row:
                write(root / table / row.split(",")[0], radiograph)
    return root


def test_a_chexpert_study_has_all_its_views_and_the_sets_own_name(tmp_path: Path, png_bytes: bytes) -> None:
    studies, _ = read(f"chexpert:{chexpert(tmp_path, png_bytes)}")
    study = studies["chexpert:patient00002_study1"]
    assert study.subject_id == "chexpert:patient00002"
    assert [(image.item_id, image.view) for image in study.images] == [
        ("chexpert:patient00002_study1#view1_frontal", "pa"),
        ("chexpert:patient00002_study1#view2_lateral", "lateral"),
    ]
    assert (study.age, study.sex, study.attributes) == (83.0, "F", {"published_split": "train"})
    assert studies["chexpert:patient64541_study1"].attributes == {"published_split": "valid"}
    assert studies["chexpert:patient00004_study1"].sex is None


def test_the_four_states_of_a_chexpert_label_stay_four(tmp_path: Path, png_bytes: bytes) -> None:
    studies, _ = read(f"chexpert:{chexpert(tmp_path, png_bytes)}")
    result = studies["chexpert:patient00002_study1"].findings
    assert (result["edema"], result["pneumothorax"], result["pneumonia"]) == (P, A, U)
    assert "fracture" not in result
    doubted = studies["chexpert:patient00002_study2"].findings
    assert (doubted["lung_opacity"], doubted["consolidation"], doubted["fracture"]) == (U, U, P)
    assert "edema" not in doubted, "an uncertain parent says nothing of its children"
    normal = status_lists(studies["chexpert:patient00001_study1"].findings)
    assert normal == {"present": ["no_finding", "support_devices"], "absent": [], "uncertain": []}


def test_what_is_wrong_in_chexpert_is_recorded_and_the_rest_read(tmp_path: Path, png_bytes: bytes) -> None:
    root = chexpert(tmp_path, png_bytes)
    with (root / "train.csv").open("a") as table:
        table.write("CheXpert-v1.0-small/train/nobody.jpg,Male,1,Frontal,AP," + labels() + "\n")
        table.write(f"CheXpert-v1.0-small/train/{TRAIN[0]}\n")
        table.write(
            "x/train/patient00001/study1/view2_lateral.jpg,Female,68,Lateral,," + labels(Edema="1.0") + "\n"
        )
        table.write("CheXpert-v1.0-small/train/patient1,Male" + "," * 30 + "x\n")
    write(root / "train" / "patient00001" / "study1" / "view2_lateral.jpg", png_bytes)
    studies, problems = read(f"chexpert:{root}")
    assert len(studies) == 6
    assert [(p.item_id, p.state) for p in problems] == [
        ("chexpert:train.csv@row11", "failed"),
        ("chexpert:train.csv@row8", "failed"),
        ("chexpert:patient00001_study1#view1_frontal~again", "skipped"),
        ("chexpert:patient00001_study1#findings", "noted"),
        ("chexpert:patient00003_study1#view1_frontal", "missing"),
        ("chexpert:patient00004_study1#findings", "noted"),
        ("chexpert:patient00005_study1#findings", "noted"),
        ("chexpert:patient00005_study1#age", "noted"),
    ]
    assert "Cardiomegaly is '2.0'" in problems[5].reason
    assert "disagree" in problems[3].reason
    assert studies["chexpert:patient00001_study1"].findings["no_finding"] is P
    assert studies["chexpert:patient00005_study1"].findings == {"edema": A}


def test_chexpert_is_read_from_its_folder_from_the_one_above_and_with_a_byte_order_mark(
    tmp_path: Path, png_bytes: bytes
) -> None:
    root = chexpert(tmp_path / "data", png_bytes)
    inside = read(f"chexpert:{root}")
    assert read(f"chexpert:{root.parent}") == inside
    table = root / "train.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert read(f"chexpert:{root}") == inside


def test_a_renamed_chexpert_folder_still_finds_its_images(tmp_path: Path, png_bytes: bytes) -> None:
    root = chexpert(tmp_path, png_bytes)
    found = len(read(f"chexpert:{root}")[0])
    assert len(read(f"chexpert:{root.rename(tmp_path / 'films')}")[0]) == found > 0


def test_of_two_chexpert_sizes_side_by_side_one_must_be_named(tmp_path: Path, png_bytes: bytes) -> None:
    for name in ("CheXpert-v1.0", "CheXpert-v1.0-small"):
        chexpert(tmp_path, png_bytes, name)
    with pytest.raises(CorpusError, match=r"'CheXpert-v1\.0' and 'CheXpert-v1\.0-small': name one"):
        open_source(f"chexpert:{tmp_path}")


def test_a_train_table_of_another_set_is_not_taken_for_chexpert(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "Path,label\na.jpg,1\n")
    with pytest.raises(CorpusError, match=r"is not chexpert, which has train\.csv"):
        open_source(f"chexpert:{tmp_path}")


def test_reports_of_chexpert_plus_join_their_images_and_the_tables_label_wins(
    tmp_path: Path, png_bytes: bytes
) -> None:
    root = chexpert(tmp_path, png_bytes)
    write(
        root / "df_chexpert_plus_240401.csv",
        "path_to_image,report,section_findings,section_impression\n"
        "train/patient00002/study1/view1_frontal.jpg,SENTINEL,No edema. Small nodule.,\n"
        "train/patient00002/study1/view2_lateral.jpg,SENTINEL,No edema. Small nodule.,\n"
        "train/patient00003/study1/view1_frontal.jpg,,,Mild edema.\n"
        "train/patient00009/study1/view1_frontal.jpg,,Clear lungs.,\n",
    )
    studies, problems = read(f"chexpert:{root}")
    result = label_study(studies["chexpert:patient00002_study1"]).findings
    assert (result["edema"], result["nodule"]) == (P, P)
    assert studies["chexpert:patient00003_study1"].images == (), "a study of its report without its image"
    assert studies["chexpert:patient00009_study1"].report is not None
    assert "SENTINEL" not in repr(studies) + repr(problems)


# mimic-cxr

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with pneumonia last ___.

 COMPARISON:  Chest radiograph ___.

 FINDINGS:

 There is a small right pleural effusion. Compared to ___, no
 pneumothorax is seen.

 IMPRESSION:

 Small right pleural effusion.
"""
FILES = "files/p10/p10000032"
A_IMAGE, B_IMAGE, C_IMAGE = "02aa804e-bde0afdd", "174413ec-4ec4c1f7", "2a2277a9-b0ded155"
METADATA = (
    "dicom_id,subject_id,study_id,ViewPosition,Rows,StudyDate,StudyTime\n"
    f"{A_IMAGE},10000032,50414267,PA,3056,21800506,213014.531\n"
    f"{B_IMAGE},10000032,50414267,LATERAL,3056,21800506,213014.531\n"
    f"{C_IMAGE},10000032,53189527,AP,3056,21800626,83000.0\n"
    "f0000000-gone,10000980,50985099,,3056,21850620,x\n"
)
CHEXPERT = f"subject_id,study_id,{','.join(LABELS)}\n10000032,50414267,{labels(Pleural_Effusion='-1.0')}\n"
SPLIT = f"dicom_id,study_id,subject_id,split\n{A_IMAGE},50414267,10000032,validate\n"


def mimic(
    folder: Path, radiograph: bytes, metadata: str = METADATA, *, packed: bool = True, reports: str = "."
) -> Path:
    for kind, content in (("metadata", metadata), ("chexpert", CHEXPERT), ("split", SPLIT)):
        name = f"mimic-cxr-2.0.0-{kind}.csv"
        write(
            folder / (name + ".gz" if packed else name),
            gzip.compress(content.encode()) if packed else content,
        )
    for position in (f"s50414267/{A_IMAGE}", f"s50414267/{B_IMAGE}", f"s53189527/{C_IMAGE}"):
        write(folder / FILES / f"{position}.jpg", radiograph)
    write(folder / reports / FILES / "s50414267.txt", REPORT)
    return folder


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("reports", [".", "mimic-cxr-reports"])
def test_a_mimic_study_has_its_images_its_report_its_labels_and_its_date(
    tmp_path: Path, png_bytes: bytes, packed: bool, reports: str
) -> None:
    studies, problems = read(f"mimic-cxr:{mimic(tmp_path, png_bytes, packed=packed, reports=reports)}")
    assert list(studies) == ["mimic-cxr:s50414267", "mimic-cxr:s53189527"]
    study = studies["mimic-cxr:s50414267"]
    assert study.subject_id == "mimic-cxr:p10000032"
    assert [(image.item_id, image.view) for image in study.images] == [
        (f"mimic-cxr:s50414267#{A_IMAGE}", "pa"),
        (f"mimic-cxr:s50414267#{B_IMAGE}", "lateral"),
    ]
    assert study.report is not None
    assert [s.name for s in study.report.sections] == [
        "examination", "indication", "comparison", "findings", "impression",
    ]  # fmt: skip
    assert study.findings == {"pleural_effusion": U}
    assert (study.date, study.attributes) == ("2180-05-06T21:30:14", {"published_split": "validate"})
    assert studies["mimic-cxr:s53189527"].date == "2180-06-26T08:30:00"
    assert [(p.item_id, p.state) for p in problems] == [("mimic-cxr:s50985099#f0000000-gone", "missing")]


def test_the_report_of_mimic_adds_what_its_table_leaves_blank(tmp_path: Path, png_bytes: bytes) -> None:
    studies, _ = read(f"mimic-cxr:{mimic(tmp_path, png_bytes)}")
    result = label_study(studies["mimic-cxr:s50414267"]).findings
    assert result["pleural_effusion"] is U, "the table's word wins"
    assert result["pneumothorax"] is A
    assert "pneumonia" not in result, "the question is no finding"


def test_mimic_is_read_with_reports_only(tmp_path: Path) -> None:
    write(tmp_path / "mimic-cxr-reports" / FILES / "s50414267.txt", REPORT)
    write(tmp_path / "mimic-cxr-reports" / FILES / "s50414268.txt", " FINAL REPORT\n ___ ___\n")
    write(tmp_path / "mimic-cxr-reports" / FILES / "s50414269.txt", "")
    write(tmp_path / "mimic-cxr-reports" / FILES / "summary.txt", REPORT)
    studies, problems = read(f"mimic-cxr:{tmp_path}")
    assert list(studies) == ["mimic-cxr:s50414267"]
    assert studies["mimic-cxr:s50414267"].images == ()
    assert [(p.item_id, p.state) for p in problems] == [
        ("mimic-cxr:s50414268#report", "skipped"),
        ("mimic-cxr:s50414269#report", "failed"),
    ]


def test_mimic_is_read_with_images_only_and_negbio_labels(tmp_path: Path, png_bytes: bytes) -> None:
    folder = mimic(tmp_path, png_bytes)
    (folder / FILES / "s50414267.txt").unlink()
    (folder / "mimic-cxr-2.0.0-chexpert.csv.gz").rename(folder / "mimic-cxr-2.0.0-negbio.csv.gz")
    studies, _ = read(f"mimic-cxr:{folder}")
    assert studies["mimic-cxr:s50414267"].report is None
    assert studies["mimic-cxr:s50414267"].findings == {"pleural_effusion": U}


def test_labels_that_radiologists_gave_mimic_reach_nothing(tmp_path: Path, png_bytes: bytes) -> None:
    folder = mimic(tmp_path, png_bytes)
    write(folder / "mimic-cxr-2.1.0-test-set-labeled.csv", "study_id,Edema\n50414267,1.0\n")
    studies, _ = read(f"mimic-cxr:{folder}")
    assert "edema" not in studies["mimic-cxr:s50414267"].findings


def test_bad_rows_of_mimic_are_recorded_and_the_rest_read(tmp_path: Path, png_bytes: bytes) -> None:
    rows = (
        f"{A_IMAGE},10000032,50414267,PA,1,21800506,0\n"
        f"{A_IMAGE},10000032,50414267,PA,1,21800506,0\n"
        "no,,50414267,PA,1,21800506,0\n"
        "../../../etc/passwd,10000032,50414267,PA,1,21800506,0\n"
        "e1,10000032,50414270,PA,1,21800506,0\n"
        "e2,10000033,50414270,PA,1,21800506,0\n"
        f"{C_IMAGE},10000032,53189527,PA,1,21801332,0\n"
    )
    metadata = METADATA.split("\n", 1)[0] + "\n" + rows
    studies, problems = read(f"mimic-cxr:{mimic(tmp_path, png_bytes, metadata)}")
    assert list(studies) == ["mimic-cxr:s50414267", "mimic-cxr:s53189527"]
    table = "mimic-cxr:mimic-cxr-2.0.0-metadata.csv.gz"
    assert [(p.item_id, p.state) for p in problems] == [
        (f"{table}@row2", "skipped"),
        (f"{table}@row3", "failed"),
        (f"{table}@row4", "failed"),
        ("mimic-cxr:s50414270", "failed"),
        ("mimic-cxr:s53189527#date", "noted"),
    ]
    assert studies["mimic-cxr:s50414267"].date == "2180-05-06T00:00:00"


# both


def test_the_labelled_sets_are_distinguished_from_each_other_and_from_others(
    tmp_path: Path, png_bytes: bytes
) -> None:
    paths = {
        "chexpert": chexpert(tmp_path, png_bytes),
        "mimic-cxr": mimic(tmp_path / "m", png_bytes),
        "openi": write(tmp_path / "o" / "indiana_reports.csv", "uid,findings,impression\n").parent,
    }
    for kind in (*paths, "dicom"):
        for looks, folder in paths.items():
            if kind == looks:
                assert open_source(f"{kind}:{folder}").name == kind
                continue
            with pytest.raises(CorpusError, match=f"is not {kind}.*looks like {looks}"):
                open_source(f"{kind}:{folder}")
    (tmp_path / "empty").mkdir()
    for kind in ("chexpert", "mimic-cxr"):
        with pytest.raises(CorpusError, match=f"'empty' is not {kind}, which has"):
            open_source(f"{kind}:{tmp_path}/empty")
        with pytest.raises(CorpusError, match="is not there"):
            open_source(f"{kind}:{tmp_path}/gone")


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08\x00broken", b"no gzip at all", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-6]],
    ids=["broken", "no gzip", "cut off"],
)
def test_a_gzipped_table_that_is_not_whole_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CorpusError, match=r"'t\.csv\.gz' is no whole gzip file"):
        read_table(write(tmp_path / "t.csv.gz", content))


def test_a_gzipped_table_reads_as_the_table_in_it(tmp_path: Path) -> None:
    text = "a;b\n1;ü\n"
    plain = read_table(write(tmp_path / "t.csv", text))
    packed = read_table(write(tmp_path / "p.csv.gz", gzip.compress(text.encode("cp1252"))))
    assert packed.frame.equals(plain.frame)
