"""A cohort of ready-made vectors, written as `index add` writes: store, flush, ledger and catalog."""

import time
from collections.abc import Sequence

from benchmarks.realistic import Vectors
from corpus.findings import make_statuses
from corpus.records import ImageRef, Study
from indexer.catalog.ledger import Ledger
from indexer.catalog.ledger_records import Done, NewItem, NewStudy, Step, collection_of
from indexer.catalog.state import Version
from indexer.index import Index
from indexer.ingest.payload import attribute_hash, content_hash, digest, item_payload
from indexer.vectors.store import Point

FINGERPRINT = "f" * 64
SOURCE = "bench"


def study_of(number: int, age: float) -> Study:
    """Return a study with one image; three studies per subject."""
    study_id = f"{SOURCE}:{number}"
    return Study(
        study_id,
        f"{SOURCE}:p{number // 3}",
        SOURCE,
        (ImageRef(f"{study_id}#film", f"/films/{number}.png", "pa", "DX"),),
        findings=make_statuses(present=["edema", "nodule"], absent=["pneumothorax"]),
        age=age,
        sex="F",
        date="2020-03-01",
    )


def write_cohort(index: Index, vectors: Vectors, ages: Sequence[float], step: int) -> dict[str, float]:
    """Write one study per vector, `step` per commit. Making the studies is not timed.

    Returns:
        Seconds by stage: prepare, vectors, flush, ledger.
    """
    stages = dict.fromkeys(("prepare", "vectors", "flush", "ledger"), 0.0)
    ledger = Ledger(index.catalog.engine, index.home)
    ledger.register(Version(FINGERPRINT, SOURCE, vectors.shape[1], "", "active"))
    collection = collection_of("image", FINGERPRINT)
    index.store.create(collection, vectors.shape[1], {})
    for start in range(0, len(vectors), step):
        numbers = range(start, min(start + step, len(vectors)))
        studies = [study_of(number, ages[number]) for number in numbers]
        moment = time.perf_counter()
        new, points, done = [], [], {}
        for number, study in zip(numbers, studies, strict=True):
            image = study.images[0]
            point = index.home.point_id(image.item_id)
            payload = item_payload(study, image, index.home, {})
            content = digest(number)
            done["image", point] = Done(content_hash(content, FINGERPRINT), attribute_hash(study, payload))
            points.append(Point(point, vectors[number], payload))
            item = NewItem(image.item_id, point, "image", content, image.location, "pa", "DX", "0:0:0")
            new.append(NewStudy(study, (item,)))
        moment = _spend(stages, "prepare", moment)
        index.store.upsert(collection, points)
        moment = _spend(stages, "vectors", moment)
        index.store.flush(collection)
        moment = _spend(stages, "flush", moment)
        ledger.commit(Step(studies=new, done=done), FINGERPRINT, SOURCE)
        _spend(stages, "ledger", moment)
    return stages


def _spend(stages: dict[str, float], stage: str, since: float) -> float:
    now = time.perf_counter()
    stages[stage] += now - since
    return now
