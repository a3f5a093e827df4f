"""Localization of a finding in an image, without an index."""

from dataclasses import replace
from pathlib import Path
from typing import overload

from corpus.settings import settings
from retrieval.localize.answer import Localization
from retrieval.localize.localizer import localize as ask
from retrieval.localize.refine.refiner import open_refiner
from retrieval.localize.specificity.calibration import find_calibration, method_for
from retrieval.query.image import QueryImage
from similarity.images import ImageLike, to_query_image
from trainer.runtime.encoder import Encoder


@overload
def localize(
    encoder: Encoder,
    image: "ImageLike | QueryImage",
    finding: str,
    *,
    method: str | None = None,
    refine: str | None = None,
    home: Path | None = None,
) -> Localization: ...
@overload
def localize(
    encoder: Encoder,
    image: "ImageLike | QueryImage",
    finding: list[str] | tuple[str, ...],
    *,
    method: str | None = None,
    refine: str | None = None,
    home: Path | None = None,
) -> list[Localization]: ...
def localize(
    encoder: Encoder,
    image: "ImageLike | QueryImage",
    finding: str | list[str] | tuple[str, ...],
    *,
    method: str | None = None,
    refine: str | None = None,
    home: Path | None = None,
) -> Localization | list[Localization]:
    """Localize a finding in an image, without an index.

    Args:
        encoder: makes the saliency maps.
        image: see `similarity.images.ImageLike`.
        finding: a phrase that names one finding, with its laterality if need be; or several.
        method: gradcam, gscorecam, m2ib or patches; None: the one that the encoder is calibrated for.
        refine: sam, sam:NAME, sam:FILE, random-walker or none; None: the setting `SIMILARITY_REFINE`.
        home: folder of the calibrations; None: the setting `SIMILARITY_HOME`.

    Returns:
        For one phrase its `Localization` (`.mask`, `.map`, `.side`, `.overlay()`), for several a list. If the
        map is not specific to the phrase, `.mask` is None and `.reason` says why.

    Raises:
        UsageError: a phrase is empty or a report, the image is blank or tiny, or the method is unknown.
        UnreadableImage, NotAdmitted: the image cannot be read.
        EncoderError: the encoder has no map of features.
    """
    decoded = image if isinstance(image, QueryImage) else to_query_image(image)
    phrases = [finding] if isinstance(finding, str) else list(finding)
    chosen = method_for(encoder.fingerprint, method, home)
    found = ask(
        encoder,
        decoded.pixels,
        phrases,
        method=chosen,
        refine=open_refiner(refine, settings().device),
        calibration=find_calibration(encoder.fingerprint, chosen, home),
        spacing=decoded.spacing,
    )
    found = [replace(answer, image=decoded.pixels) for answer in found]
    return found[0] if isinstance(finding, str) else found
