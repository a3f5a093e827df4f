"""`similarity localize`: the command. Only click is imported until it runs."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from similarity.cli.source_options import SourceOptions, table_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corpus.records import Source
    from indexer.index import Index
    from retrieval.localize.answer import Localization
    from retrieval.localize.localizer import Localizer
    from retrieval.localize.refine.refiner import Refiner
    from trainer.runtime.encoder import Encoder

EPILOG = """\b
Examples:
  similarity localize --image film.dcm --finding "right pleural effusion" --encoder runs/mine --out found
  similarity localize --case phantom:2-3 --finding consolidation --finding nodule --out found --json
  similarity localize --image film.png --like openi:1000 --out alike
  similarity localize --corpus nih-chestxray14:DIR --finding nodule --encoder runs/mine --out masks
  similarity localize --image film.png --finding nodule --segmenter runs/segmenter --out found
  similarity localize --calibrate phantom:160@5 --encoder runs/mine --method patches

A mask is given only where the map answers to the phrase more than to others. How much more is fitted once
per encoder and method, by --calibrate, on films whose findings are known. Not for diagnosis."""

METHODS = ("gradcam", "gscorecam", "m2ib", "patches")


@click.command(epilog=EPILOG)
@click.option("--image", metavar="FILE", help="A film: PNG, JPEG or DICOM.")
@click.option("--case", metavar="STUDY_ID", help="A study of the index: its first film.")
@click.option("--corpus", metavar="SOURCE", help="Every film of a source, into a folder with masks.csv.")
@click.option("--calibrate", metavar="SOURCE", help="Fit when to believe maps, on films of known findings.")
@click.option("--finding", "findings", multiple=True, metavar="TEXT", help="What to find; may be repeated.")
@click.option("--like", metavar="STUDY_ID", help="Show what of the film is like what of that case.")
@click.option(
    "--method", type=click.Choice(METHODS),
    help="How maps are made (default: as the encoder is calibrated for, else gscorecam).",
)  # fmt: skip
@click.option(
    "--refine", metavar="R",
    help="Follow edges: sam, sam:NAME, sam:FILE, random-walker or none (default: SIMILARITY_REFINE, "
    "else sam; where none of SAM's checkpoints is, the random walker).",
)  # fmt: skip
@click.option("--encoder", metavar="DIR|NAME", help="By this encoder, also without an index.")
@click.option(
    "--segmenter", metavar="DIR", help="By what `train-segmenter` made, instead of an encoder's maps."
)
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Where the pictures go.")
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
    """Show where a finding is in a film, or which part of a case is like which part of it."""
    from corpus.errors import UsageError

    asked = [
        name
        for name, value in (("image", image), ("case", case), ("corpus", corpus), ("calibrate", calibrate))
        if value is not None
    ]
    if len(asked) != 1:
        raise UsageError(
            "say one of --image FILE, --case STUDY_ID, --corpus SOURCE and --calibrate SOURCE"
            + (f", not {' and '.join('--' + name for name in asked)}" if asked else "")
        )
    if calibrate is None:
        if (not findings) == (like is None):
            raise UsageError("say what to find: --finding TEXT, or --like STUDY_ID, and not both")
        if out is None:
            raise UsageError("say where the pictures go: --out DIR")
        if corpus is not None and like is not None:
            raise UsageError("--like compares one film with a case: say --image or --case, not --corpus")
        _check(findings)
    if segmenter is not None and not (encoder is None and like is None and calibrate is None):
        raise UsageError(
            "--segmenter answers --finding by itself: leave out --encoder, --like and --calibrate"
        )
    with ExitStack() as held:
        needed = (encoder is None and segmenter is None) or case is not None or like is not None
        writes = corpus is not None  # the answers are kept with the films
        index = _open_index(held, needed=needed, writes=writes) if needed or writes else None
        if calibrate is not None:
            told = _calibrate(_encoder(index, encoder), options.open(calibrate), method)
        elif like is not None:
            assert out is not None
            location = image if image is not None else _location_of(index, case or "")
            chosen = _encoder(index, encoder)
            shown = {"image": image, "case": case, "encoder": _named(chosen)}
            told = {**shown, **_likeness(chosen, index, location, like, out)}
        else:
            assert out is not None
            by = _localizer(index, encoder, segmenter, method, refine, findings)
            if corpus is not None:
                told = _over_corpus(by, index, options.open(corpus), findings, out)
            else:
                location = image if image is not None else _location_of(index, case or "")
                shown = {"image": image, "case": case, "encoder": _named(by)}
                told = {**shown, **_answers(by, location, findings, out)}
    if as_json:
        import json

        click.echo(json.dumps(told, indent=2))
    else:
        for line in _lines(told):
            click.echo(line)


def _check(findings: "Sequence[str]") -> None:
    """Refuse a phrase before anything slow is loaded."""
    from retrieval.localize.question import read_question

    for finding in findings:
        read_question(finding)


def _open_index(held: ExitStack, *, needed: bool, writes: bool) -> "Index | None":
    """Open the index; where it is not needed, only if there is one."""
    from corpus.settings import settings
    from indexer.index import Index

    there = settings().database_url is not None or (settings().home_folder / "catalog.sqlite").is_file()
    if not (needed or there):
        return None
    index = held.enter_context(
        Index.open(read_only=not writes, on_wait=lambda note: click.echo(note, err=True))
    )
    if needed:
        index.active_version  # noqa: B018  an empty index is told before the encoder is loaded
    return index


def _encoder(index: "Index | None", name: str | None) -> "Encoder":
    if name is None:
        assert index is not None
        return index.encoder
    from corpus.settings import settings
    from trainer.models.registry import find_encoder

    folder = find_encoder(name)  # a wrong name is told before torch is imported
    from trainer.runtime.encoder import Encoder

    return Encoder.load(folder, settings().device)


def _localizer(
    index: "Index | None",
    encoder: str | None,
    segmenter: str | None,
    method: str | None,
    refine: str | None,
    findings: "Sequence[str]",
) -> "Localizer":
    """What is asked: the segmenter where one is named, else the encoder's maps."""
    from corpus.settings import settings
    from retrieval.localize.localizer import Localizer

    refiner = _refiner(refine)
    if segmenter is None:
        from retrieval.localize.specificity.calibration import method_for

        asked = _encoder(index, encoder)
        return Localizer.by_maps(asked, method_for(asked.fingerprint, method), refiner)
    from retrieval.localize.segmentation import require_known
    from trainer.runtime.segmenter import Segmenter

    learned = Segmenter.load(segmenter, settings().device)
    require_known(learned, findings)
    return Localizer.by_segmenter(learned, refiner)


def _named(by: "Encoder | Localizer") -> dict[str, str]:
    return {"name": by.name, "fingerprint": by.fingerprint}


def _refiner(choice: str | None) -> "Refiner | None":
    from corpus.settings import settings
    from retrieval.localize.refine.refiner import open_refiner

    return open_refiner(choice, settings().device)


def _location_of(index: "Index | None", case: str) -> str:
    from retrieval.lookup import image_location

    assert index is not None
    return image_location(index, case)


def _answers(by: "Localizer", location: str, findings: "Sequence[str]", out: Path) -> dict[str, Any]:
    from corpus.images.reader import load_image
    from retrieval.localize.folder import write_answers

    image = load_image(location)
    answers = by.ask(image.pixels, findings, spacing=image.spacing)
    files = write_answers(out, image.pixels, location, answers, by.fingerprint)
    told = [{**a.as_json(), "files": f} for a, f in zip(answers, files, strict=True)]
    return {"answers": told, "notes": list(image.notes)}


def _lines(told: dict[str, Any]) -> "Iterator[str]":
    """An answer for people to read."""
    from corpus.findings import VOCABULARY

    yield from told.get("notes", ())
    for answer in told.get("answers", ()):
        sure = f"({answer['specificity']:.2f}; a mask from {answer['threshold']:.2f})"
        yield f"{answer['phrase']}: {answer['words'] or answer['reason']} {sure}"
        if answer["words"] and answer["reason"]:
            yield f"  {answer['reason']}"
        if answer["size_mm"]:
            high, wide = answer["size_mm"]
            at = " at the detector" if answer["spacing_source"] == "detector" else ""
            yield f"  {high:.0f} mm high, {wide:.0f} mm wide{at}"
        elif answer["mask"] and VOCABULARY.largest_mm(answer["finding"]) is not None:
            yield "  The image does not say how large its pixels are: its longer side is taken for 380 mm."
        yield f"  {answer['files'].get('mask', answer['files']['overlay'])}"
    for number, pair in enumerate(told.get("pairs", ()), 1):
        boxes = " is like ".join(
            f"columns {box['left']}–{box['right']}, rows {box['top']}–{box['bottom']}"
            for box in (pair["query"], pair["hit"])
        )
        yield f"{number}: {boxes} ({pair['score']:.2f})"
    if "pairs" in told:
        yield told["files"]["overlay"]
    if "folder" in told:
        yield (
            f"{told['pictures']} films: {told['found']} masks, {told['refused']} refused, "
            f"{told['skipped']} done earlier, {len(told['problems'])} problems"
        )
        yield told["folder"]
    if "rates" in told:
        yield "on films not fitted on:"
        for kind, words in _KINDS.items():
            if kind in told["rates"]:
                yield f"  {words:42} {100 * told['rates'][kind]:5.1f} %"


_KINDS = {
    "present": "findings that are there: a mask given",
    "absent": "findings that are not there: refused",
    "random": "random vectors: refused",
    "shuffled": "films with their rows shuffled: refused",
}


def _likeness(
    encoder: "Encoder", index: "Index | None", location: str, like: str, out: Path
) -> dict[str, Any]:
    from corpus.images.reader import load_image
    from retrieval.localize.correspondence import likeness
    from retrieval.localize.folder import write_likeness

    query, hit = load_image(location), load_image(_location_of(index, like))
    found = likeness(encoder, query.pixels, hit.pixels)
    files = write_likeness(out, query.pixels, hit.pixels, found)
    return {"like": like, **found.as_json(), "files": files, "notes": [*query.notes, *hit.notes]}


def _over_corpus(
    by: "Localizer", index: "Index | None", source: "Source", findings: "Sequence[str]", out: Path
) -> dict[str, Any]:
    from corpus.records import Problem
    from indexer.catalog.localizations import keep_localizations
    from retrieval.localize.pseudo_labels import localize_corpus

    made_by = {
        "encoder": by.fingerprint,
        "method": by.method,
        "refined_by": by.refined_by or "none",
    }
    unread: list[Problem] = []

    def record(image: Any, answers: "Sequence[Localization]") -> None:
        if index is not None:
            rows = [_kept(answer) for answer in answers]
            keep_localizations(index.catalog.engine, image.item_id, by.fingerprint, rows)

    done = localize_corpus(
        source.studies(unread.append),
        findings,
        by.ask,
        out,
        made_by,
        on_answers=record,
    )
    done.problems.extend(unread)
    return {"encoder": _named(by), "folder": str(out), **done.as_json()}


def _kept(answer: "Localization") -> dict[str, Any]:
    told = answer.as_json()
    del told["boxes"], told["threshold"]  # the mask tells the ones, a calibration the other
    return told


def _calibrate(encoder: "Encoder", source: "Source", asked: str | None) -> dict[str, Any]:
    from retrieval.localize.specificity.calibration import keep, method_for
    from retrieval.localize.specificity.fit import calibrate

    method = method_for(encoder.fingerprint, asked)
    fitted = calibrate(encoder, source.studies(lambda problem: None), method)
    path = keep(fitted, encoder.fingerprint, method)
    return {
        "encoder": _named(encoder),
        "method": method,
        "threshold": round(fitted.threshold, 6),
        "rates": {kind: round(rate, 4) for kind, rate in fitted.rates.items()},
        "path": str(path),
    }
