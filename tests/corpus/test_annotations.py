"""Marked images: folders of masks, the NIH boxes, phantoms; and what is wrong with others' tables."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corpus.annotations import BoxTable, MaskFolder, PhantomAnnotations, box_mask, open_annotations
from corpus.errors import CorpusError, UsageError
from corpus.normal_images import NormalImage, normal_images
from corpus.phantom import masks, scene
from corpus.records import Problem

HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def write_image(path: Path, height: int = 40, width: int = 40, *, drawn: Sequence[slice] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width), np.uint8)
    pixels[tuple(drawn) or (slice(0, 8), slice(0, 8))] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "set"
    for name in ("a.png", "b.png"):
        write_image(made / "images" / name)
    write_image(made / "masks" / "a1.png", drawn=(slice(10, 20), slice(10, 20)))
    write_image(made / "masks" / "a2.png", drawn=(slice(30, 35), slice(30, 35)))
    write_image(made / "masks" / "b.png", 20, 20)
    (made / "masks.csv").write_text(
        "image,mask,structure,notes\na.png,a1.png,Tubings,\na.png,a2.png,Tubings,x\n"
        "a.png,lost.png,Left Lung,\nb.png,b.png,Nodule,\nc.png,c.png,Nodule,\n"
    )
    return made


def test_a_structure_drawn_in_parts_is_one_and_unusable_masks_are_reported(folder: Path) -> None:
    problems: list[Problem] = []
    marks = MaskFolder.open(folder)
    assert len(marks) == 3
    (image,) = marks.read(problems.append)
    assert list(image.structures) == ["Tubings"]
    assert image.structures["Tubings"].sum() == 100 + 25
    assert image.subject_id == "set:a.png"
    result = {problem.item_id: (problem.state, problem.reason) for problem in problems}
    assert result["a.png#Left Lung"][0] == "missing"
    assert result["c.png"][0] == "missing"
    assert result["b.png#Nodule"][0] == "failed"
    assert "20 x 20 and 40 x 40" in result["b.png#Nodule"][1]


def test_the_images_classed_normal_are_those_without_a_finding(folder: Path) -> None:
    assert normal_images(MaskFolder.open(folder)) == []
    (folder / "images.csv").write_text(
        "image,class,subject_id\na.png,normal,\nd.png,Normal,p9\ne.png,benign,\n"
    )
    write_image(folder / "images" / "d.png")
    (normal,) = normal_images(MaskFolder.open(folder))
    assert normal == NormalImage("d.png", "p9", str(folder / "images" / "d.png"))


def test_a_normal_image_without_a_file_is_missing_and_another_table_of_the_name_is_noted(
    folder: Path,
) -> None:
    problems: list[Problem] = []
    (folder / "images.csv").write_text("image,class\nlost.png,normal\n")
    assert normal_images(MaskFolder.open(folder), problems.append) == []
    (folder / "images.csv").write_text("file,width\na.png,40\n")
    assert normal_images(MaskFolder.open(folder), problems.append) == []
    lost, other = problems
    assert (lost.item_id, lost.state) == ("lost.png", "missing")
    assert (other.item_id, other.state) == ("set:images.csv", "noted")
    assert "no image of this set is taken for normal" in other.reason


def test_a_set_table_that_lacks_a_column_is_noted_and_the_boxes_are_read(tmp_path: Path) -> None:
    problems: list[Problem] = []
    for name in ("00000003_000.png", "00000004_000.png"):
        write_image(tmp_path / "images" / name)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(HEADER + "00000003_000.png,Mass,100,100,200,200,,,\n")
    table = tmp_path / "Data_Entry_2017_mine.csv"
    table.write_text("Image Index,Patient ID\n00000003_000.png,3\n")
    opened = open_annotations(None, boxes, tmp_path / "images", problems.append)
    (read,) = opened.read(print)
    assert (read.view, read.sex, normal_images(opened)) == (None, None, [])
    assert [problem.state for problem in problems] == ["noted"]
    assert "views, sexes and normal images are not known" in problems[0].reason
    problems.clear()
    table.write_text(
        "Image Index,Finding Labels,Patient ID,Patient Gender,View Position\n"
        "00000003_000.png,Mass,3,?!,AP\n00000009_000.png,No Finding,9,?!,PA\n"
    )
    open_annotations(None, boxes, tmp_path / "images", problems.append)
    assert [problem.item_id for problem in problems] == ["nih-chestxray14:00000003_000#sex"]


def test_views_and_sexes_are_read_where_the_table_has_them(folder: Path) -> None:
    table = folder / "masks.csv"
    table.write_text("image,mask,structure,view,sex\na.png,a1.png,X,PA,female\nb.png,a2.png,X,,\n")
    read = {image.name: (image.view, image.sex) for image in MaskFolder.open(folder).read(print)}
    assert read == {"a.png": ("pa", "F"), "b.png": (None, None)}


def test_the_sets_own_table_beside_the_boxes_gives_view_sex_and_normal_images(tmp_path: Path) -> None:
    for name in ("00000003_000.png", "00000004_000.png", "00000005_000.png"):
        write_image(tmp_path / "images" / name)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(HEADER + "00000003_000.png,Mass,100,100,200,200,,,\n")
    (without,) = open_annotations(None, boxes, tmp_path / "images", print).read(print)
    assert (without.view, without.sex) == (None, None)
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(
        "Image Index,Finding Labels,Patient ID,Patient Gender,View Position\n"
        "00000003_000.png,Mass,3,M,AP\n00000004_000.png,No Finding,4,F,PA\n"
        "00000005_000.png,Edema,5,F,PA\n00000006_000.png,No Finding,6,F,PA\n"
    )
    opened = open_annotations(None, boxes, tmp_path / "images", print)
    (read,) = opened.read(print)
    assert (read.subject_id, read.view, read.sex) == ("nih-chestxray14:3", "ap", "M")
    (normal,) = normal_images(opened)
    assert (normal.name, normal.subject_id, normal.view, normal.sex) == (
        "00000004_000.png", "nih-chestxray14:4", "pa", "F",
    )  # fmt: skip


def test_a_subject_column_groups_the_images_of_one_subject(folder: Path) -> None:
    table = folder / "masks.csv"
    table.write_text("image,mask,structure,subject_id\na.png,a1.png,X,p1\nb.png,a2.png,X,p1\n")
    assert {image.subject_id for image in MaskFolder.open(folder).read(print)} == {"p1"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "is no folder"),
        ("phantom:0", "is no phantom"),
        ("phantom:x", "is no phantom"),
        (None, "give the ground truth"),
    ],
)
def test_a_wrong_ground_truth_is_refused_in_one_line(spec: str | None, message: str) -> None:
    with pytest.raises((CorpusError, UsageError), match=message) as caught:
        open_annotations(spec, None, None, print)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no masks\.csv"):
        open_annotations(str(tmp_path), None, None, print)
    (tmp_path / "masks.csv").write_text("image,masc,structure\na,b,c\n")
    with pytest.raises(CorpusError, match="did you mean 'masc'"):
        open_annotations(str(tmp_path), None, None, print)


def test_boxes_of_the_1024_px_originals_fall_on_smaller_images(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "00000007_000.png", 320, 320)
    table = tmp_path / "boxes.csv"
    table.write_text(
        HEADER + "00000007_000.png,Effusion,512,256,128,64,,,\n00000007_001.png,Mass,0,0,9,9,,,\n"
    )
    problems: list[Problem] = []
    (image,) = open_annotations(None, table, tmp_path / "images", problems.append).read(problems.append)
    assert image.subject_id == "nih-chestxray14:7"
    rows, columns = image.structures["Effusion"].nonzero()
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (80, 100, 160, 200)
    assert [(problem.item_id, problem.state) for problem in problems] == [("00000007_001.png", "missing")]


def test_a_box_smaller_than_a_pixel_is_still_somewhere() -> None:
    assert box_mask((100.0, 200.0, 0.1, 0.1), (32, 32)).sum() == 1


def test_boxes_in_another_pixel_frame_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "00000007_000.png", 320, 320)
    table = tmp_path / "boxes.csv"
    table.write_text(HEADER + "00000007_000.png,Mass,1500,20,600,600,,,\n")
    with pytest.raises(CorpusError, match=r"row 1 .* beyond 1024 px.*another pixel frame"):
        BoxTable.open(table, tmp_path / "images", print)
    table.write_text(HEADER + "00000007_000.png,Mass,250,20,60,60,,,\n" * 8)
    with pytest.raises(CorpusError, match=r"all 8 boxes end within 320 px.*another pixel frame"):
        list(BoxTable.open(table, tmp_path / "images", print).read(print))


def test_rows_without_a_box_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "00000007_000.png", 320, 320)
    table = tmp_path / "boxes.csv"
    table.write_text(
        HEADER + "00000007_000.png,Mass,x,1,1,1,,,\n00000007_000.png,Mass,1,1,0,5,,,\n,Mass,1,1,1,1,,,\n"
        "00000007_000.png,Mass,900,900,60,60,,,\n"
    )
    problems: list[Problem] = []
    marks = BoxTable.open(table, tmp_path / "images", problems.append)
    assert len(list(marks.read(problems.append))) == 1
    assert [problem.item_id for problem in problems] == ["boxes:row1", "boxes:row2", "boxes:row3"]
    with pytest.raises(UsageError, match="--images"):
        open_annotations(None, table, None, print)


def test_phantoms_have_the_masks_of_lesions_that_one_can_be_sure_of() -> None:
    read = {image.name: image for image in PhantomAnnotations(40, 8).read(print)}
    assert 10 < len(read) < 35
    for number in range(40):
        drawn = scene(8, number)
        sure = {lesion.finding for lesion in drawn.lesions if not lesion.faint}
        image = read.get(f"phantom:8-{number}")
        assert sure == set(image.structures if image else ())
        for finding, mask in (image.structures if image else {}).items():
            assert (mask == masks(drawn)[finding]).all()


@pytest.mark.real_data
def test_the_published_sets_are_read(data: Path) -> None:
    problems: list[Problem] = []
    drawn = list(
        open_annotations(str(data / "covid-cxr-segmentation"), None, None, print).read(problems.append)
    )
    assert len(drawn) == 70
    assert sum("Ground Glass Opacities" in image.structures for image in drawn) > 50
    nih = data / "nih-chestxray14"
    boxes = open_annotations(None, nih / "BBox_List_2017.csv", nih, problems.append)
    read = list(boxes.read(problems.append))
    assert (len(read), sum(len(image.structures) for image in read)) == (738, 824)
    assert {image.view for image in read} == {"pa", "ap"}
    assert {image.sex for image in read} == {"F", "M"}
    assert not [problem for problem in problems if problem.state == "failed"]
    normal = normal_images(boxes)
    assert len(normal) == 1221
    assert not {image.name for image in read} & {image.name for image in normal}
    assert len(normal_images(open_annotations(str(data / "busi"), None, None, print))) == 100
