"""DICOM objects refer to their source image, read back exactly, and repeat only required patient elements."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest

from corpus.dicom.spacing import Spacing
from corpus.errors import ExportError
from corpus.geometry import Orientation
from corpus.images.reader import read_image
from retrieval.export.dicom_objects import secondary_capture, segmentation
from retrieval.export.drawing import drawn_size
from retrieval.export.formats import render
from retrieval.export.overlay import draw_overlay
from retrieval.export.source import SourceImage, read_source
from tests.retrieval.export.dicom_images import FINGERPRINT, PATIENT, block, localized, write_image

CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
KINDS: dict[str, dict[str, Any]] = {
    "dx-with-spacing": {},
    "cr-with-spacing": {"SOPClassUID": CR_IMAGE, "Modality": "CR", "PixelSpacing": [0.15, 0.15]},
    "monochrome1": {"PhotometricInterpretation": "MONOCHROME1"},
    "spacing-at-the-detector": {"PixelSpacing": None, "ImagerPixelSpacing": [0.1, 0.1]},
    "no-spacing": {"PixelSpacing": None},
    "with-a-frame-of-reference": {"FrameOfReferenceUID": "1.2.826.0.1.9"},
    "bare": {k: None for k in PATIENT if not k.endswith("UID")},
}


def reread(content: bytes, tmp_path: Path) -> Any:
    path = tmp_path / "seg.dcm"
    path.write_bytes(content)
    return hd.seg.segread(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_segmentation_reads_back_on_its_source(kind: str, tmp_path: Path) -> None:
    source = read_source(write_image(tmp_path / "image.dcm", **KINDS[kind]))
    masks = [block(5, 3), block(15, 8)]
    made = segmentation(
        source, [localized(masks[0]), localized(masks[1], "ünder ♥", finding=None)], FINGERPRINT
    )
    seg = reread(made, tmp_path)
    pixels = seg.get_pixels_by_source_instance([source.header.SOPInstanceUID])
    assert pixels.shape == (1, source.rows, source.columns, 2)
    assert all((pixels[0, ..., i] == mask).all() for i, mask in enumerate(masks))
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["right consolidation", "ünder ♥"]
    assert seg.StudyInstanceUID == source.header.StudyInstanceUID
    [referenced] = seg.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.header.SeriesInstanceUID


def test_a_segment_names_its_finding_and_its_algorithm(tmp_path: Path) -> None:
    source = read_source(write_image(tmp_path / "image.dcm"))
    [segment] = reread(segmentation(source, [localized(block(1, 1))], FINGERPRINT), tmp_path).SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "consolidation"
    [algorithm] = segment.SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == "Similarity"
    assert algorithm.AlgorithmVersion.endswith("+encoder." + FINGERPRINT[:12])
    assert f"encoder={FINGERPRINT}" in algorithm.AlgorithmParameters
    assert "method=gscorecam" in algorithm.AlgorithmParameters
    assert "refined_by=random-walker" in algorithm.AlgorithmParameters


def test_only_required_patient_elements_are_repeated(tmp_path: Path) -> None:
    source = read_source(write_image(tmp_path / "image.dcm"))
    found = localized(block(1, 1))
    overlay = draw_overlay(np.zeros((60, 48), np.float32), found)
    for content in (
        segmentation(source, [found], FINGERPRINT),
        secondary_capture(source, overlay, found.phrase),
    ):
        (tmp_path / "out.dcm").write_bytes(content)
        out = pydicom.dcmread(tmp_path / "out.dcm")
        assert str(out.PatientName) == "Müller^Jürgen"
        assert (out.PatientID, out.AccessionNumber) == ("ID-4711", "A77")
        for secret in ("PatientComments", "PatientAddress", "InstitutionName"):
            assert secret not in out


def test_the_patient_is_never_in_a_log_or_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    image = write_image(tmp_path / "image.dcm", PatientName="SINGLECOMPONENT", PatientSex="X")
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        segmentation(read_source(image), [localized(block(1, 1))], FINGERPRINT)
    shown = capfd.readouterr()
    assert "SINGLECOMPONENT" not in caplog.text + shown.out + shown.err + "".join(map(str, warned))


def test_an_image_that_is_not_dicom_is_refused_in_one_sentence(tmp_path: Path, png_file: Path) -> None:
    with pytest.raises(ExportError, match="is no DICOM file"):
        read_source(png_file)
    with pytest.raises(ExportError, match="is not there"):
        read_source(tmp_path / "gone.dcm")
    with pytest.raises(ExportError, match="no valid SeriesInstanceUID"):
        read_source(write_image(tmp_path / "image.dcm", SeriesInstanceUID=None))


@pytest.fixture
def png_file(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    return path


def test_a_mask_of_another_size_than_its_source_is_refused(tmp_path: Path) -> None:
    source = read_source(write_image(tmp_path / "image.dcm"))
    with pytest.raises(ExportError, match="the source has changed"):
        segmentation(source, [localized(block(1, 1, (61, 48)))], FINGERPRINT)


def test_an_answer_without_a_mask_makes_no_segmentation(tmp_path: Path) -> None:
    source = read_source(write_image(tmp_path / "image.dcm"))
    empty = np.zeros((60, 48), np.bool_)
    with pytest.raises(ExportError, match="nothing was localized"):
        segmentation(source, [localized(None), localized(empty)], FINGERPRINT)


def test_spacing_is_in_the_patient_where_known_else_at_the_detector(tmp_path: Path) -> None:
    detector = {"ImagerPixelSpacing": [0.1, 0.1]}
    assert read_source(write_image(tmp_path / "a.dcm", **detector)).spacing == Spacing(0.2, 0.4)
    assert read_source(write_image(tmp_path / "b.dcm", PixelSpacing=None, **detector)).spacing == Spacing(
        0.1, 0.1, at_detector=True, element="ImagerPixelSpacing"
    )
    assert read_source(write_image(tmp_path / "c.dcm", PixelSpacing=None)).spacing is None


def test_a_secondary_capture_is_the_overlay_and_refers_to_its_source(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.dcm")
    source, found = read_source(image), localized(block(5, 5))
    overlay = draw_overlay(read_image(image), found, spacing=source.spacing)
    (tmp_path / "out.dcm").write_bytes(secondary_capture(source, overlay, found.phrase))
    out = pydicom.dcmread(tmp_path / "out.dcm")
    assert (out.pixel_array == overlay).all()
    assert out.BurnedInAnnotation == "YES"
    assert "Not for diagnosis" in out.ImageComments
    assert out.SourceImageSequence[0].ReferencedSOPInstanceUID == source.header.SOPInstanceUID
    assert out.StudyInstanceUID == source.header.StudyInstanceUID


@pytest.mark.real_data
def test_real_radiographs_are_exported_in_either_polarity(data: Path, tmp_path: Path) -> None:
    for path in sorted((data / "dicom").glob("*.dcm")):
        source = read_source(path)
        mask = block(300, 200, (source.rows, source.columns))
        seg = reread(segmentation(source, [localized(mask)], FINGERPRINT), tmp_path)
        pixels = seg.get_pixels_by_source_instance([source.header.SOPInstanceUID])
        assert (pixels[0, ..., 0] == mask).all()


EIGHT = [[one, other] for pair in (("LR", "HF"), ("HF", "LR")) for one in pair[0] for other in pair[1]]


@pytest.mark.parametrize("orientation", EIGHT)
def test_a_mask_of_the_shown_image_lies_on_the_stored_image_in_every_dicom_object(
    orientation: list[str], tmp_path: Path
) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    image = write_image(tmp_path / "image.dcm", PatientOrientation=orientation, **window)
    stored = pydicom.dcmread(image).pixel_array
    source, shown = read_source(image), read_image(image)
    brightest = shown >= np.sort(shown.ravel())[-40]  # masked on the shown image
    answer = localized(brightest)
    seg = reread(render("dicom_seg", shown, answer, source, FINGERPRINT), tmp_path)
    [marked] = seg.get_pixels_by_source_instance([source.header.SOPInstanceUID])[..., 0]
    assert marked.shape == stored.shape
    assert set(stored[marked > 0]) == set(np.sort(stored.ravel())[-40:])
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(mm) for mm in measures.PixelSpacing] == [0.2, 0.4]

    (tmp_path / "sc.dcm").write_bytes(render("secondary_capture", shown, answer, source, FINGERPRINT))
    capture = pydicom.dcmread(tmp_path / "sc.dcm")
    assert list(capture.PatientOrientation) == orientation
    height, width = drawn_size(stored.shape)
    drawn = capture.pixel_array[:height, :width].mean(axis=2)
    assert np.corrcoef(resized(stored, drawn.shape).ravel(), drawn.ravel())[0, 1] > 0.95
    assert [float(mm) for mm in capture.PixelSpacing] == pytest.approx(
        [0.2 * 60 / height, 0.4 * 48 / width], rel=1e-6
    )


def resized(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = (np.arange(n) * side // n for n, side in zip(shape, plane.shape, strict=True))
    return plane[np.ix_(rows, columns)].astype(float)


def test_a_header_passed_between_processes_keeps_hanging_and_spacing(tmp_path: Path) -> None:
    source = read_source(write_image(tmp_path / "image.dcm", PatientOrientation=["F", "R"]))
    again = SourceImage.from_json(json.loads(json.dumps(source.as_json())))
    assert again.hanging == source.hanging == Orientation(transposed=True, left_right=True)
    assert again.spacing == source.spacing
