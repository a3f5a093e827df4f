"""From the catalog's cases to what leaves by HTTP: paths taken away, opaque ids added."""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote
from uuid import UUID

from corpus.errors import SimilarityError
from corpus.findings import sides
from corpus.records import ImageRef, Study
from corpus.settings import settings
from indexer.home import Home
from retrieval import answer as told
from retrieval.query.image import Picture
from retrieval.service import schemas
from retrieval.service.problems import Refused
from retrieval.service.state import State

NO_CASE = Refused(404, "no-case", "There is no such case: it may have been removed since you saw it.")
NO_IMAGE = Refused(
    404, "no-image", "There is no such picture: its case may have been removed since you saw it."
)

IMAGE_CHANGED = Refused(
    409,
    "image-changed",
    "The file of this picture has changed since it was indexed: whoever runs the service has to index its "
    "source again.",
)
IMAGE_GONE = Refused(410, "image-gone", "The file of this picture is gone or broken since it was indexed.")


def study_key(home: Home, study_id: str) -> str:
    """The opaque id of a case."""
    return home.keyed("study", study_id)


def case_id(state: State, named: str) -> str:
    """The study_id of a case that is named by its opaque id or by its study_id.

    Raises:
        Refused: 404, there is none.
    """
    found = state.catalog.studies_by_key([named]) or state.catalog.studies([named])
    for study in found.values():
        return study.study_id
    raise NO_CASE


def find_case(state: State, key: str) -> Study:
    """A case by its opaque id.

    Raises:
        Refused: 404, there is none (any more).
    """
    study = state.catalog.studies_by_key([key]).get(key)
    if study is None:
        raise NO_CASE
    return study


def find_image(state: State, image: str) -> tuple[Study, ImageRef]:
    """A picture by its opaque id, with its study.

    Raises:
        Refused: 404, there is none (any more).
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
    """The opaque id of the case that a picture belongs to.

    Raises:
        Refused: 404, there is none (any more).
    """
    return study_key(state.home, find_image(state, image)[0].study_id)


def read_image(state: State, image: str) -> Picture:
    """The pixels of a picture of the index.

    Raises:
        Refused: 404, there is none; 410, its file is gone or broken.
    """
    _, ref = find_image(state, image)
    try:
        return state.pictures.read(ref.location)
    except SimilarityError:
        raise IMAGE_GONE from None


def require_unchanged(state: State, image: str, picture: Picture) -> None:
    """See to it that a picture which was read is the one that was indexed.

    Raises:
        Refused: 404, it is not there any more; 409, its file has changed since.
    """
    point = UUID(hex=image)
    item = state.catalog.items_of_points([point]).get(point)
    if item is None:
        raise NO_IMAGE
    if item.content != picture.content:
        raise IMAGE_CHANGED


def pictures(home: Home, images: Iterable[ImageRef]) -> list[schemas.Picture]:
    """The pictures of a case with their opaque ids."""
    return [
        schemas.Picture(id=home.point_id(i.item_id).hex, item_id=i.item_id, view=i.view, modality=i.modality)
        for i in images
    ]


def whole_case(state: State, study: Study) -> schemas.Case:
    """Everything that is shown of one case, and its subject's other studies, newest first."""
    home = state.home
    others = [s for s in state.catalog.study_ids_of_subject(study.subject_id) if s != study.study_id]
    known = state.catalog.studies(others)
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
        own_studies=[_summary(home, known[other]) for other in others if other in known],
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
        findings=schemas.Findings(**sides(study.findings)),
        attributes={**study.attributes, **_dated(study)},
        language=None if study.report is None else study.report.language,
        findings_read=_findings_read(study),
        images=pictures(home, study.images),
    )


def _findings_read(study: Study) -> bool | None:
    looked = study.report is not None and study.report.language is not None
    return study.report.findings_read if study.report is not None and looked else None


def _dated(study: Study) -> dict[str, str | float]:
    known = {"age": study.age, "sex": study.sex, "date": study.date}
    return {name: value for name, value in known.items() if value is not None}


def summaries(state: State, cases: Sequence[told.Case]) -> dict[str, schemas.CaseSummary]:
    """Study → what an answer tells of it; a study that was removed meanwhile is left out."""
    images = state.catalog.images_of_studies(case.study_id for case in cases)
    return {
        case.study_id: schemas.CaseSummary(
            id=study_key(state.home, case.study_id),
            **{name: value for name, value in case.as_json().items() if name != "path"},
            images=pictures(state.home, images[case.study_id]),
        )
        for case in cases
        if case.study_id in images
    }


def hit(home: Home, found: told.Hit, summary: schemas.CaseSummary) -> schemas.Hit:
    """One hit of an answer."""
    known = {picture.item_id: picture.id for picture in summary.images}
    evidence = [
        schemas.Evidence(**entry.as_json(), image=known.get(entry.item_id)) for entry in found.evidence
    ]
    shown = next((entry.image for entry in evidence if entry.image), None)
    return schemas.Hit(
        **dict(summary),
        rank=found.rank,
        score=round(found.score, 6),
        kind=found.kind,
        item_id=found.item_id,
        image=shown or next(iter(known.values()), None),
        evidence=evidence,
    )


def _viewer(study: Study) -> str | None:
    """The link of the site's viewer to a study; None where none is set, or the study lacks what it needs."""
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
