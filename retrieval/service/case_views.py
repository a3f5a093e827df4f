"""Cases and images of the catalog as HTTP shows them: found by opaque id, without paths."""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote
from uuid import UUID

from corpus.errors import SimilarityError
from corpus.findings import status_lists
from corpus.records import ImageRef, Study
from corpus.settings import settings
from indexer.catalog.studies import Case
from indexer.home import Home
from retrieval.answer import Hit
from retrieval.query.image import QueryImage
from retrieval.service import schemas
from retrieval.service.problems import Refused
from retrieval.service.state import State
from retrieval.service.uploads import SENT_IMAGE

NO_CASE = Refused(404, "no-case", "There is no such case: it may have been removed since you saw it.")
NO_IMAGE = Refused(
    404, "no-image", "There is no such image: its case may have been removed since you saw it."
)

IMAGE_CHANGED = Refused(
    409,
    "image-changed",
    "The file of this image has changed since it was indexed: its source has to be indexed again.",
)
IMAGE_GONE = Refused(
    410, "image-gone", "The file of this image is missing or broken: it was readable when it was indexed."
)


def study_key(home: Home, study_id: str) -> str:
    """Return the opaque id of a case."""
    return home.keyed("study", study_id)


def case_id(state: State, name: str) -> str:
    """Return the study_id of a case, given its opaque id or its study_id.

    Raises:
        Refused: 404, there is no such case.
    """
    found = state.catalog.studies_by_key([name]) or state.catalog.studies([name])
    for study in found.values():
        return study.study_id
    raise NO_CASE


def find_case(state: State, key: str) -> Study:
    """Return a case by its opaque id.

    Raises:
        Refused: 404, there is no such case (any more).
    """
    study = state.catalog.studies_by_key([key]).get(key)
    if study is None:
        raise NO_CASE
    return study


def find_image(state: State, image: str) -> tuple[Study, ImageRef]:
    """Return the study and the reference of an image by its opaque id.

    Raises:
        Refused: 404, there is no such image (any more).
    """
    point = UUID(hex=image)
    item = state.catalog.items_of_points([point]).get(point)
    if item is None or item.kind != "image":
        raise NO_IMAGE
    study = state.catalog.studies([item.study_id]).get(item.study_id)
    for ref in study.images if study is not None else ():
        if study is not None and ref.item_id == item.item_id:
            return study, ref
    raise NO_IMAGE


def key_of_image(state: State, image: str) -> str:
    """Return the opaque id of the case that an image belongs to.

    Raises:
        Refused: 404, there is no such image (any more).
    """
    return study_key(state.home, find_image(state, image)[0].study_id)


def read_image(state: State, image: str) -> QueryImage:
    """Read an image of the index.

    Raises:
        Refused: 404, there is no such image; 410, its file is missing or broken.
    """
    _, ref = find_image(state, image)
    try:
        return state.image_pool.read(ref.location)
    except SimilarityError:
        raise IMAGE_GONE from None


def query_image(state: State, image: str | None, content: bytes | None) -> QueryImage:
    """Return the image that a request is about: one of the index, or the uploaded one.

    Raises:
        Refused: 422, neither or both are given; 404 or 410, the one of the index is gone.
        UnreadableImage, NotAdmitted: the upload is not a readable radiograph.
    """
    if (content is None) == (image is None):
        raise Refused(
            422,
            "wrong-request",
            "Upload an image as the form's `image`, or give the id of one of the index: one of the two.",
        )
    return read_image(state, str(image)) if content is None else state.image_pool.decode(content, SENT_IMAGE)


def require_unchanged(state: State, image: str, content_hash: str) -> None:
    """Check that an image of the index still has the content that was indexed.

    Args:
        state: of the service.
        image: its opaque id.
        content_hash: of the image as read now.

    Raises:
        Refused: 404, there is no such image any more; 409, its file has changed.
    """
    point = UUID(hex=image)
    item = state.catalog.items_of_points([point]).get(point)
    if item is None:
        raise NO_IMAGE
    if item.content != content_hash:
        raise IMAGE_CHANGED


def case_images(home: Home, images: Iterable[ImageRef]) -> list[schemas.CaseImage]:
    """Return the images of a case with their opaque ids."""
    return [
        schemas.CaseImage(
            id=home.point_id(i.item_id).hex, item_id=i.item_id, view=i.view, modality=i.modality
        )
        for i in images
    ]


def whole_case(state: State, study: Study) -> schemas.Case:
    """Return one case in full, with its subject's other studies, newest first."""
    home = state.home
    others = [s for s in state.catalog.study_ids_of_subject(study.subject_id) if s != study.study_id]
    existing = state.catalog.studies(others)
    report = study.report
    return schemas.Case(
        **dict(_summary(home, study)),
        age=study.age,
        sex=study.sex,
        date=study.date,
        accession=study.accession,
        report=None
        if report is None
        else [schemas.Section(name=section.name, text=section.text) for section in report.sections],
        own_studies=[_summary(home, existing[other]) for other in others if other in existing],
        viewer=_viewer(study),
    )


def _summary(home: Home, study: Study) -> schemas.CaseSummary:
    return schemas.CaseSummary(
        id=study_key(home, study.study_id),
        study_id=study.study_id,
        subject_id=study.subject_id,
        source=study.source,
        text=study.report.text if study.report else None,
        diagnosis=study.diagnosis,
        findings=schemas.Findings(**status_lists(study.findings)),
        attributes={**study.attributes, **_dated(study)},
        language=None if study.report is None else study.report.language,
        findings_read=_findings_read(study),
        images=case_images(home, study.images),
    )


def _findings_read(study: Study) -> bool | None:
    report = study.report
    return None if report is None or report.language is None else report.findings_read


def _dated(study: Study) -> dict[str, str | float]:
    values = {"age": study.age, "sex": study.sex, "date": study.date}
    return {name: value for name, value in values.items() if value is not None}


def summaries(state: State, cases: Sequence[Case]) -> dict[str, schemas.CaseSummary]:
    """Return study_id → case as an answer shows it, without the studies removed since the search."""
    images = state.catalog.images_of_studies(case.study_id for case in cases)
    return {
        case.study_id: schemas.CaseSummary(
            id=study_key(state.home, case.study_id),
            **{name: value for name, value in case.as_json().items() if name != "path"},
            images=case_images(state.home, images[case.study_id]),
        )
        for case in cases
        if case.study_id in images
    }


def hit_view(found: Hit, summary: schemas.CaseSummary) -> schemas.Hit:
    """Return one hit of an answer."""
    ids = {image.item_id: image.id for image in summary.images}
    evidence = [schemas.Evidence(**entry.as_json(), image=ids.get(entry.item_id)) for entry in found.evidence]
    shown = next((entry.image for entry in evidence if entry.image), None)
    return schemas.Hit(
        **dict(summary),
        rank=found.rank,
        score=round(found.score, 6),
        kind=found.kind,
        item_id=found.item_id,
        image=shown or next(iter(ids.values()), None),
        evidence=evidence,
    )


def _viewer(study: Study) -> str | None:
    """Return the link of the site's viewer to a study; None without a template, or without what it needs."""
    template = settings().viewer_url
    if not template:
        return None
    link = template
    parts: Mapping[str, str | None] = {
        "study_uid": study.study_uid,
        "accession": study.accession,
        "study_id": study.study_id,
    }
    for name, value in parts.items():
        if f"{{{name}}}" in link:
            if not value:
                return None
            link = link.replace(f"{{{name}}}", quote(value, safe=""))
    return link
