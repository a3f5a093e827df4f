"""The published sets: their layouts become studies, and what does not is recorded by name."""

from pathlib import Path

import pytest

from corpus.errors import CorpusError, UsageError
from corpus.findings import Status, present_leaves, status_lists
from corpus.records import Problem, Study
from corpus.sources import open_source

COVID = "patientid,offset,sex,age,finding,view,modality,date,folder,filename,clinical_notes\n"
NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
OPENI = "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"


def write(folder: Path, table: str, text: str, image_files: dict[str, bytes] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / table).write_text(text, "utf-8")
    for name, content in (image_files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read(spec: str, **options: object) -> tuple[dict[str, Study], list[Problem]]:
    problems: list[Problem] = []
    studies = list(open_source(spec, **options).studies(problems.append))  # type: ignore[arg-type]
    ids = [study.study_id for study in studies]
    items = [image.item_id for study in studies for image in study.images]
    assert len(ids) == len(set(ids))
    assert len(items) == len(set(items))
    return {study.study_id: study for study in studies}, problems


# covid-chestxray


def covid(tmp_path: Path, rows: str, radiograph: bytes, names: tuple[str, ...] = ("a.png", "b.png")) -> str:
    image_files = {f"images/{name}": radiograph for name in names}
    return f"covid-chestxray:{write(tmp_path, 'metadata.csv', COVID + rows, image_files)}"


def test_rows_of_one_patient_and_offset_are_one_study(tmp_path: Path, png_bytes: bytes) -> None:
    rows = (
        '7,3,F,61,COVID-19,PA,X-ray,"January 22, 2020",images,a.png,Infiltrate in the left lung.\n'
        '7,3,F,61,COVID-19,L,X-ray,"January 22, 2020",images,b.png,Infiltrate in the left lung.\n'
    )
    studies, problems = read(covid(tmp_path, rows, png_bytes))
    assert not problems
    (study,) = studies.values()
    assert study.study_id == "covid-chestxray:7@3"
    assert study.subject_id == "covid-chestxray:7"
    assert [image.item_id for image in study.images] == ["covid-chestxray:7@3#a", "covid-chestxray:7@3#b"]
    assert [image.view for image in study.images] == ["pa", "lateral"]
    assert (study.age, study.sex, study.date) == (61.0, "F", "2020-01-22")
    assert study.report is not None
    assert study.report.text.count("Infiltrate") == 1


def test_a_row_without_offset_is_a_study_named_by_its_file(tmp_path: Path, png_bytes: bytes) -> None:
    rows = "7,,F,61,SARS,PA,X-ray,2003,images,a.png,\n7,,F,61,SARS,AP Supine,X-ray,2003,images,b.png,\n"
    studies, _ = read(covid(tmp_path, rows, png_bytes))
    assert list(studies) == ["covid-chestxray:7@a.png", "covid-chestxray:7@b.png"]
    assert studies["covid-chestxray:7@b.png"].images[0].view == "ap_supine"
    assert studies["covid-chestxray:7@a.png"].date is None
    assert studies["covid-chestxray:7@a.png"].attributes["year"] == 2003
    assert studies["covid-chestxray:7@a.png"].report is None


def test_the_finding_column_is_a_diagnosis_and_never_a_finding(tmp_path: Path, png_bytes: bytes) -> None:
    rows = "1,0,F,5,Pneumonia,PA,X-ray,,images,a.png,\n2,0,F,5,todo,PA,X-ray,,images,b.png,\n"
    studies, _ = read(covid(tmp_path, rows, png_bytes))
    assert studies["covid-chestxray:1@0"].diagnosis == "Pneumonia"
    assert studies["covid-chestxray:2@0"].diagnosis is None
    assert all(not study.findings for study in studies.values())


def test_slices_are_skipped_unless_admitted_and_missing_images_are_missing(
    tmp_path: Path, png_bytes: bytes
) -> None:
    rows = "1,0,F,5,SARS,Axial,CT,,images,a.png,\n2,0,F,5,SARS,PA,X-ray,,images,gone.png,Small effusion.\n"
    spec = covid(tmp_path, rows, png_bytes)
    studies, problems = read(spec)
    assert [(p.item_id, p.state) for p in problems] == [
        ("covid-chestxray:1@0#a", "skipped"),
        ("covid-chestxray:2@0#gone", "missing"),
    ]
    assert "--admit CT" in problems[0].reason
    assert list(studies) == ["covid-chestxray:2@0"], "the note stays without its image"
    assert studies["covid-chestxray:2@0"].images == ()
    admitted, _ = read(spec, admit=frozenset({"ct"}))
    assert admitted["covid-chestxray:1@0"].images[0].modality == "CT"


def test_two_files_of_one_stem_keep_two_ids(tmp_path: Path, png_bytes: bytes) -> None:
    rows = "1,0,F,5,SARS,PA,X-ray,,images,a.png,\n1,0,F,5,SARS,PA,X-ray,,images,a.jpg,\n"
    studies, _ = read(covid(tmp_path, rows, png_bytes, ("a.png", "a.jpg")))
    first, second = (image.item_id for image in studies["covid-chestxray:1@0"].images)
    assert first.startswith("covid-chestxray:1@0#a~")
    assert second == "covid-chestxray:1@0#a"


@pytest.mark.parametrize(
    ("age", "sex", "attribute"), [("411", "F", "age"), ("soon", "F", "age"), ("5", "Q", "sex")]
)
def test_an_impossible_attribute_is_recorded_and_the_study_stays(
    tmp_path: Path, png_bytes: bytes, age: str, sex: str, attribute: str
) -> None:
    studies, problems = read(
        covid(tmp_path, f"1,0,{sex},{age},SARS,PA,X-ray,,images,a.png,\n", png_bytes, ("a.png",))
    )
    assert getattr(studies["covid-chestxray:1@0"], attribute) is None
    assert [(p.item_id, p.state) for p in problems] == [(f"covid-chestxray:1@0#{attribute}", "noted")]


# nih-chestxray14


def nih(tmp_path: Path, rows: str, image_files: dict[str, bytes]) -> str:
    return f"nih-chestxray14:{write(tmp_path, 'Data_Entry_2017_v2020.csv', NIH + rows, image_files)}"


def test_listed_is_present_and_the_rest_unmentioned(tmp_path: Path, png_bytes: bytes) -> None:
    spec = nih(
        tmp_path,
        "0001_000.png,Effusion|Mass,0,1,058Y,F,AP\n",
        {"images_007/images/0001_000.png": png_bytes},
    )
    studies, problems = read(spec)
    assert not problems
    study = studies["nih-chestxray14:0001_000"]
    assert study.subject_id == "nih-chestxray14:1"
    assert study.images[0].item_id == "nih-chestxray14:0001_000#0001_000"
    assert present_leaves(study.findings) == {"pleural_effusion", "mass"}
    assert study.findings["lung_opacity"] is Status.PRESENT, "a mass is an opacity"
    assert "absent" not in study.findings.values()
    assert (study.age, study.sex, study.images[0].view) == (58.0, "F", "ap")


def test_no_finding_calls_all_that_could_be_listed_absent(tmp_path: Path, png_bytes: bytes) -> None:
    studies, _ = read(nih(tmp_path, "1_0.png,No Finding,0,1,20,M,PA\n", {"images/1_0.png": png_bytes}))
    result = status_lists(studies["nih-chestxray14:1_0"].findings)
    assert result["present"] == ["no_finding"]
    assert len(result["absent"]) == 14
    assert "support_devices" not in result["absent"], "the set says nothing of devices"


def test_bad_rows_of_nih_are_recorded_and_the_rest_read(tmp_path: Path, png_bytes: bytes) -> None:
    rows = (
        "a.png,Edema,0,1,411,M,PA\n"
        "a.png,Edema,0,1,41,M,PA\n"
        "b.png,Edema,0,2,41,M,PA\n"
        "c.png,Gout,0,,41,M,PA\n"
        "d.png,Gout,0,4,41,M,PA\n"
    )
    image_files = {f"images/{name}.png": png_bytes for name in "acd"}
    studies, problems = read(nih(tmp_path, rows, image_files))
    assert list(studies) == ["nih-chestxray14:a", "nih-chestxray14:d"]
    assert studies["nih-chestxray14:a"].age is None
    assert [(p.item_id, p.state) for p in problems] == [
        ("nih-chestxray14:a#age", "noted"),
        ("nih-chestxray14:a#a@row2", "skipped"),
        ("nih-chestxray14:b#b", "missing"),
        ("nih-chestxray14:row4", "failed"),
        ("nih-chestxray14:d#findings", "noted"),
    ]
    assert "'411'" in problems[0].reason
    assert "Gout" in problems[4].reason


# openi


def test_human_codes_of_openi_reach_nothing(tmp_path: Path, png_bytes: bytes) -> None:
    rows = (
        "1,SENTINEL/mesh,SENTINEL,SENTINEL image,Cough.,None.,Lungs are clear.,Normal chest.\n"
        "2,SENTINEL,SENTINEL,,,,XXXX,\n"
    )
    folder = write(
        tmp_path, "indiana_reports.csv", OPENI + rows, {"images/1_IM-0001-4001.dcm.png": png_bytes}
    )
    (folder / "indiana_projections.csv").write_text(
        "uid,filename,projection\n1,1_IM-0001-4001.dcm.png,Frontal\n1,1_IM-0001-3001.dcm.png,Lateral\n"
    )
    studies, problems = read(f"openi:{folder}")
    assert "SENTINEL" not in repr(studies) + repr(problems)
    assert list(studies) == ["openi:1"]
    report = studies["openi:1"].report
    assert report is not None
    assert [s.name for s in report.sections] == ["indication", "comparison", "findings", "impression"]
    assert report.described == "Lungs are clear. Normal chest."
    assert studies["openi:1"].images[0].item_id == "openi:1#1_IM-0001-4001.dcm"
    assert [(p.item_id, p.state) for p in problems] == [
        ("openi:1#1_IM-0001-3001.dcm", "missing"),
        ("openi:2#report", "skipped"),
    ]


def test_a_repeated_uid_is_recorded_and_the_first_stays(tmp_path: Path) -> None:
    rows = "1,,,,,,First.,\n1,,,,,,Second.,\n,,,,,,Nobody's.,\n"
    studies, problems = read(f"openi:{write(tmp_path, 'indiana_reports.csv', OPENI + rows)}")
    assert studies["openi:1"].report.described == "First."  # type: ignore[union-attr]
    assert [p.state for p in problems] == ["failed", "failed"]
    assert "repeats the uid 1" in problems[0].reason


# what is no such set


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("openi", "write KIND:PATH"),
        ("", "write KIND:PATH"),
        ("openi:", "write KIND:PATH"),
        ("opnei:/x", "did you mean 'openi'"),
        ("nih:/x", "unknown source 'nih' .did you mean 'nih-chestxray14'"),
        ("phantom:many", "write phantom:COUNT"),
        ("phantom:5@x", "write phantom:COUNT"),
        ("phantom:0", "1 or more"),
    ],
)
def test_a_malformed_source_is_wrong_usage(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_source(spec)


def test_the_refusal_of_a_bare_folder_names_its_likely_kind(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", "indiana_reports.csv", OPENI)
    with pytest.raises(UsageError, match=f"did you mean openi:{folder}"):
        open_source(str(folder))


def test_another_sets_folder_is_refused_naming_what_it_looks_like(tmp_path: Path, make_dicom) -> None:
    paths = {
        "covid-chestxray": write(tmp_path / "c", "metadata.csv", COVID),
        "nih-chestxray14": write(tmp_path / "n", "Data_Entry_2017.csv", NIH),
        "openi": write(tmp_path / "o", "indiana_reports.csv", OPENI),
        "dicom": make_dicom(tmp_path / "d" / "deep" / "film").parents[1],
    }
    for kind in paths:
        for looks, folder in paths.items():
            if kind == looks:
                open_source(f"{kind}:{folder}")
                continue
            with pytest.raises(CorpusError, match=f"is not {kind}.*looks like {looks}") as refused:
                open_source(f"{kind}:{folder}")
            assert refused.value.exit_code == 1
    with pytest.raises(CorpusError, match="looks like openi:o"):
        open_source(f"manifest:{paths['openi']}")


def test_missing_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    for kind in ("openi", "dicom", "nih-chestxray14", "covid-chestxray"):
        with pytest.raises(CorpusError, match="is not there"):
            open_source(f"{kind}:{tmp_path}/gone")
        with pytest.raises(CorpusError, match="is a file"):
            open_source(f"{kind}:{tmp_path}/file.txt")
    with pytest.raises(CorpusError, match="is not there"):
        open_source(f"manifest:{tmp_path}/gone.csv")
    with pytest.raises(CorpusError, match=r"is not openi, which has indiana_reports\.csv$"):
        open_source(f"openi:{tmp_path}/empty")


def test_a_table_that_lacks_a_column_names_the_nearest_it_has(tmp_path: Path) -> None:
    folder = write(tmp_path, "metadata.csv", "patientid,file_name,finding,modality\n1,a.png,SARS,X-ray\n")
    with pytest.raises(CorpusError, match=r"no column 'filename' \(did you mean 'file_name'\?\)"):
        open_source(f"covid-chestxray:{folder}")


def test_reports_are_joined_to_dicom_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="openi brings its own"):
        open_source(f"openi:{tmp_path}", reports=tmp_path / "r.csv")


def test_a_phantom_source_is_opened_by_count_and_seed() -> None:
    studies, problems = read("phantom:3@9")
    assert len(studies) == 3
    assert not problems
    assert all(study.images[0].location.startswith("phantom://9/") for study in studies.values())


# the real sets


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("kind", "studies", "subjects", "images", "reports", "skipped", "missing"),
    [
        ("covid-chestxray", 439, 254, 478, 365, 50, 0),
        ("nih-chestxray14", 2358, 1425, 2358, 0, 0, 0),
        ("openi", 3139, 3139, 4, 3139, 21, 6124),
        ("dicom", 1, 1, 2, 0, 0, 0),  # one UID, other pixels: kept and noted
    ],
)
def test_the_real_sets_are_read_whole_and_equally_twice(
    data: Path, kind: str, studies: int, subjects: int, images: int, reports: int, skipped: int, missing: int
) -> None:
    source = open_source(f"{kind}:{data / kind}")
    problems: list[Problem] = []
    found = list(source.studies(problems.append))
    assert source.name == kind
    assert len(found) == studies
    assert len({study.subject_id for study in found}) == subjects
    assert sum(len(study.images) for study in found) == images
    assert sum(study.report is not None for study in found) == reports
    states = [problem.state for problem in problems]
    assert (states.count("failed"), states.count("skipped"), states.count("missing")) == (0, skipped, missing)
    assert found == list(source.studies(lambda problem: None))


@pytest.mark.real_data
def test_no_truth_of_openi_is_in_its_studies(data: Path) -> None:
    table = (data / "openi" / "indiana_reports.csv").read_text("utf-8")
    assert "Cardiomegaly/borderline" in table
    studies, problems = read(f"openi:{data / 'openi'}")
    assert "/borderline" not in repr(studies) + repr(problems)
    assert all(not study.findings for study in studies.values())
