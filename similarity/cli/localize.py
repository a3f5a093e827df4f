"""`similarity localize`: maps and masks of findings, and corresponding parts of two images. Only click is
imported until it runs."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from similarity.cli.console import print_json
from similarity.cli.options import SourceOptions, table_options
from similarity.cli.resources import open_encoder, open_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corpus.records import Source
    from indexer.index import Index
    from retrieval.localize.localizer import Localizer
    from retrieval.localize.refine.refiner import Refiner
    from trainer.runtime.encoder import Encoder

EPILOG = """\b
Examples:
  similarity localize --image image.dcm --finding "right pleural effusion" --encoder runs/mine --out found
  similarity localize --case phantom:2-3 --finding consolidation --finding nodule --out found --json
  similarity localize --image image.png --like openi:1000 --out corresponding
  similarity localize --corpus nih-chestxray14:DIR --finding nodule --encoder runs/mine --out masks
  similarity localize --image image.png --finding nodule --segmenter runs/segmenter --out found
  similarity localize --calibrate phantom:160@5 --encoder runs/mine --method patches

A mask is returned only where the map is specific to the phrase. The threshold is fitted once per encoder and
method, by --calibrate, on images with known findings. Not for diagnosis."""

METHODS = ("gradcam", "gscorecam", "m2ib", "patches")


@click.command(epilog=EPILOG)
@click.option("--image", metavar="FILE", help="An image: PNG, JPEG or DICOM.")
@click.option("--case", metavar="STUDY_ID", help="A study of the index: its first image.")
@click.option("--corpus", metavar="SOURCE", help="Every image of a source, into a folder with masks.csv.")
@click.option(
    "--calibrate", metavar="SOURCE", help="Fit the specificity threshold on a source with known findings."
)
@click.option("--finding", "findings", multiple=True, metavar="TEXT", help="Finding to localize (repeat).")
@click.option("--like", metavar="STUDY_ID", help="Show which parts correspond to that case.")
@click.option(
    "--method", type=click.Choice(METHODS),
    help="Saliency method (default: the calibrated one, else gscorecam).",
)  # fmt: skip
@click.option(
    "--refine", metavar="R",
    help="Mask refinement: sam, sam:NAME, sam:FILE, random-walker or none (default: SIMILARITY_REFINE, "
    "else sam: LiteMedSAM where it is installed; the random walker where no SAM checkpoint is here).",
)  # fmt: skip
@click.option("--encoder", metavar="DIR|NAME", help="Use this encoder; needs no index.")
@click.option("--segmenter", metavar="DIR", help="Use this segmenter of `train-segmenter` instead of maps.")
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Folder for the images.")
@table_options
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def localize(
    image: str | None,
    case: str | None,
    corpus: str | None,
    calibrate: str | None,
    findings: tuple[str, ...],
    like: str | None,
    method: str | None,
    refine: str | None,
    encoder: str | None,
    segmenter: str | None,
    out: Path | None,
    options: SourceOptions,
    as_json: bool,
) -> None:
    """Localize a finding in an image, or show which parts of an image correspond to a case."""
    from corpus.errors import UsageError

    given = [
        name
        for name, value in (("image", image), ("case", case), ("corpus", corpus), ("calibrate", calibrate))
        if value is not None
    ]
    if len(given) != 1:
        raise UsageError(
            "give one of --image FILE, --case STUDY_ID, --corpus SOURCE and --calibrate SOURCE"
            + (f", not {' and '.join('--' + name for name in given)}" if given else "")
        )
    if calibrate is None:
        if (not findings) == (like is None):
            raise UsageError("give --finding TEXT or --like STUDY_ID, and not both")
        if out is None:
            raise UsageError("give a folder for the images: --out DIR")
        if corpus is not None and like is not None:
            raise UsageError("--like compares one image with a case: give --image or --case, not --corpus")
        _check(findings)
    if segmenter is not None and not (encoder is None and like is None and calibrate is None):
        raise UsageError("--segmenter needs no encoder: leave out --encoder, --like and --calibrate")
    with ExitStack() as stack:
        needed = (encoder is None and segmenter is None) or case is not None or like is not None
        index = stack.enter_context(open_index()) if needed else None
        if calibrate is not None:
            answer = _calibrate(_encoder(index, encoder), options.open(calibrate), method)
        elif like is not None:
            assert out is not None
            location = image if image is not None else _location_of(index, case or "")
            chosen = _encoder(index, encoder)
            shown = {"image": image, "case": case, "encoder": _named(chosen)}
            answer = {**shown, **_correspondence(chosen, index, location, like, out)}
        else:
            assert out is not None
            by = _localizer(index, encoder, segmenter, method, refine, findings)
            if corpus is not None:
                answer = _over_corpus(by, options.open(corpus), findings, out)
            else:
                location = image if image is not None else _location_of(index, case or "")
                shown = {"image": image, "case": case, "encoder": _named(by)}
                answer = {**shown, **_answers(by, location, findings, out)}
    if as_json:
        print_json(answer, indent=2)
    else:
        for line in _lines(answer):
            click.echo(line)


def _check(findings: "Sequence[str]") -> None:
    """Check the phrases before anything slow is imported."""
    from retrieval.localize.question import read_question

    for finding in findings:
        read_question(finding)


def _encoder(index: "Index | None", name: str | None) -> "Encoder":
    if name is None:
        assert index is not None
        return index.encoder
    return open_encoder(name)


def _localizer(
    index: "Index | None",
    encoder: str | None,
    segmenter: str | None,
    method: str | None,
    refine: str | None,
    findings: "Sequence[str]",
) -> "Localizer":
    """Return the segmenter if one is named, else the encoder's saliency maps."""
    from corpus.settings import settings
    from retrieval.localize.localizer import Localizer

    refiner = _refiner(refine)
    if segmenter is None:
        from retrieval.localize.specificity.calibration import method_for

        chosen = _encoder(index, encoder)
        return Localizer.by_maps(chosen, method_for(chosen.fingerprint, method), refiner)
    from retrieval.localize.localizer import load_segmenter, require_learned

    learned = load_segmenter(segmenter, settings().device)
    require_learned(learned, findings)
    return Localizer.by_segmenter(learned, refiner)


def _named(by: "Encoder | Localizer") -> dict[str, str]:
    return {"name": by.name, "fingerprint": by.fingerprint}


def _refiner(choice: str | None) -> "Refiner | None":
    from corpus.settings import settings
    from retrieval.localize.refine.refiner import open_refiner

    return open_refiner(choice, settings().device)


def _location_of(index: "Index | None", case: str) -> str:
    from retrieval.query.references import image_location

    assert index is not None
    return image_location(index, case)


def _answers(by: "Localizer", location: str, findings: "Sequence[str]", out: Path) -> dict[str, Any]:
    from corpus.images.reader import load_image
    from retrieval.localize.answer_folder import write_answers

    image = load_image(location)
    answers = by.localize(image.pixels, findings, spacing=image.spacing)
    files = write_answers(out, image.pixels, location, answers, by.fingerprint)
    entries = [{**a.as_json(), "files": f} for a, f in zip(answers, files, strict=True)]
    return {"answers": entries, "notes": list(image.notes)}


def _lines(result: dict[str, Any]) -> "Iterator[str]":
    """Yield the answer as lines of text."""
    from corpus.findings import VOCABULARY

    yield from result.get("notes", ())
    for answer in result.get("answers", ()):
        sure = f"({answer['specificity']:.2f}; threshold {answer['threshold']:.2f})"
        yield f"{answer['phrase']}: {answer['words'] or answer['reason']} {sure}"
        if answer["words"] and answer["reason"]:
            yield f"  {answer['reason']}"
        if answer["size_mm"]:
            high, wide = answer["size_mm"]
            at = " at the detector" if answer["spacing_source"] == "detector" else ""
            yield f"  {high:.0f} mm high, {wide:.0f} mm wide{at}"
        elif answer["mask"] and VOCABULARY.largest_mm(answer["finding"]) is not None:
            yield "  The image has no pixel spacing: its longer side is taken as 380 mm."
        if answer["refined_by"]:
            yield f"  edges by {answer['refined_by']}"
        yield f"  {answer['files'].get('mask', answer['files']['overlay'])}"
    for number, pair in enumerate(result.get("pairs", ()), 1):
        boxes = " corresponds to ".join(
            f"columns {box['left']}–{box['right']}, rows {box['top']}–{box['bottom']}"
            for box in (pair["query"], pair["hit"])
        )
        yield f"{number}: {boxes} ({pair['score']:.2f})"
    if "pairs" in result:
        yield result["files"]["overlay"]
    if "folder" in result:
        yield (
            f"{result['pictures']} images: {result['found']} masks, {result['refused']} refused, "
            f"{result['skipped']} done before, {len(result['problems'])} problems"
        )
        yield result["folder"]
    if "rates" in result:
        yield "on held-out images:"
        for kind, words in _KINDS.items():
            if kind in result["rates"]:
                yield f"  {words:42} {100 * result['rates'][kind]:5.1f} %"


_KINDS = {
    "present": "finding present: mask returned",
    "absent": "finding absent: no mask",
    "random": "random vectors: no mask",
    "shuffled": "images with shuffled rows: no mask",
}


def _correspondence(
    encoder: "Encoder", index: "Index | None", location: str, like: str, out: Path
) -> dict[str, Any]:
    from corpus.images.reader import load_image
    from retrieval.localize.answer_folder import write_correspondence
    from retrieval.localize.correspondence import find_correspondence

    query, hit = load_image(location), load_image(_location_of(index, like))
    found = find_correspondence(encoder, query.pixels, hit.pixels)
    files = write_correspondence(out, query.pixels, hit.pixels, found)
    return {"like": like, **found.as_json(), "files": files, "notes": [*query.notes, *hit.notes]}


def _over_corpus(by: "Localizer", source: "Source", findings: "Sequence[str]", out: Path) -> dict[str, Any]:
    from corpus.records import Problem
    from retrieval.localize.pseudo_labels import localize_corpus

    made_by = {
        "encoder": by.fingerprint,
        "method": by.method,
        "refined_by": by.refined_by or "none",
    }
    unread: list[Problem] = []
    done = localize_corpus(
        source.studies(unread.append),
        findings,
        by.localize,
        out,
        made_by,
    )
    done.problems.extend(unread)
    return {"encoder": _named(by), "folder": str(out), **done.as_json()}


def _calibrate(encoder: "Encoder", source: "Source", method: str | None) -> dict[str, Any]:
    from retrieval.localize.specificity.calibration import method_for, save_calibration
    from retrieval.localize.specificity.calibration_fit import calibrate

    chosen = method_for(encoder.fingerprint, method)
    fitted = calibrate(encoder, source.studies(lambda problem: None), chosen)
    path = save_calibration(fitted, encoder.fingerprint, chosen)
    return {
        "encoder": _named(encoder),
        "method": chosen,
        "threshold": round(fitted.threshold, 6),
        "rates": {kind: round(rate, 4) for kind, rate in fitted.rates.items()},
        "path": str(path),
    }
