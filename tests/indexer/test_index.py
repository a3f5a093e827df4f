"""What `index add`, `verify` and `remove` promise, on SQLite and on a real Postgres."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image
from qdrant_client.models import PointStruct

from corpus.errors import FingerprintMismatch
from corpus.sources import open_source
from indexer.catalog.models import ItemRow, LedgerRow, ProblemRow, SentenceRow, TombstoneRow
from indexer.home import CACHE
from indexer.index import Index
from indexer.ingest import pipeline
from indexer.ingest.added import Added, Stage, Stopped
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_study, remove_subject
from indexer.ingest.repair import verify
from indexer.vectors.filters import Comparison, FieldType
from indexer.vectors.server import ServerStore
from indexer.vectors.store import Point
from tests.encoders import build_tiny_encoder
from tests.indexer.cases import PHRASES, case, cohort, draw, write_manifest
from tests.indexer.contents import contents
from trainer.runtime.encoder import Encoder

pytestmark = pytest.mark.usefixtures("database")


def add(source: str, encoder: Encoder, **options: Any) -> Added:
    with Index.open(read_only=False) as index:
        return add_source(
            index, open_source(source), encoder, origin=source, folder="anywhere", workers=0, **options
        )


def test_a_cohort_goes_in_and_is_found_again(home: Path, tmp_path: Path, encoder: Encoder) -> None:
    source = cohort(tmp_path / "cases", 12)
    added = add(source, encoder)
    assert added.studies == 12
    assert added.embedded == {"image": 10, "report": 11, "sentence": len(PHRASES), "term": 11, "patch": 0}
    with Index.open() as index:
        study = index.catalog.studies(["manifest:s0"])["manifest:s0"]
        assert study.report is not None
        assert study.report.described.startswith(PHRASES[0])
        assert study.sex == "F"
        assert (study.age, study.date) == (30, "2020-01-03")
        assert index.catalog.filter_fields()["scanner"] is FieldType.KEYWORD
        assert index.catalog.filter_fields()["kvp"] is FieldType.NUMBER
        from corpus.images.reader import read_image

        vector = encoder.encode_images([read_image(study.images[0].location)])[0]
        (hit,) = index.store.search(index.collection("image"), vector, 1)
        assert hit.score == pytest.approx(1.0, abs=1e-5)
        item = index.catalog.items_of_points([hit.id])[hit.id]
        assert item.item_id == "manifest:s0#film0"
        by_key = index.catalog.studies_by_key([str(hit.payload["study"])])
        assert [study.study_id for study in by_key.values()] == ["manifest:s0"]
        where = Comparison("scanner", "=", "B")
        found = index.store.search(index.collection("image"), vector, 50, where)
        items = index.catalog.items_of_points([h.id for h in found]).values()
        assert {i.study_id for i in items} == {f"manifest:s{n}" for n in (1, 3, 5, 7, 11)}


def test_each_distinct_sentence_has_one_vector_and_names_all_who_say_it(
    home: Path, tmp_path: Path, encoder: Encoder
) -> None:
    add(cohort(tmp_path / "cases", 12), encoder)
    with Index.open() as index:
        vector = encoder.encode_texts([PHRASES[0]])[0]
        (hit,) = index.store.search(index.collection("sentence"), vector, 1)
        assert hit.payload == {"kind": "sentence"}
        stating = {f"manifest:s{n}" for n in range(12) if n % 7 != 6 and (0 - n) % 6 < 3}
        with index.catalog.reading() as read:
            sentence = read.sentences([hit.id], most=50)[hit.id]
            studies = read.studies_by_key(sentence.positions).values()
        assert {study.case.study_id for study in studies} == stating
        assert sentence.text == PHRASES[0]


def test_nothing_of_a_case_stands_beside_a_vector(home: Path, tmp_path: Path, encoder: Encoder) -> None:
    add(cohort(tmp_path / "cases", 6), encoder)
    with Index.open() as index:
        payloads = " ".join(str(p.payload) + str(p.id) for p in contents(index)["points"].values())
    for secret in ("manifest:s", "'p1'", "film", str(tmp_path), "small left", "normal in"):
        assert secret not in payloads


def test_a_second_run_embeds_nothing(home: Path, tmp_path: Path, encoder: Encoder) -> None:
    source = cohort(tmp_path / "cases", 8)
    add(source, encoder)
    again = add(source, encoder)
    assert again.unchanged == 8
    assert sum(again.embedded.values()) + again.updated + again.deleted == 0


def test_what_changed_is_embedded_what_stands_beside_it_is_only_written(
    home: Path, tmp_path: Path, encoder: Encoder
) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    rows = [case(n, folder) for n in range(4)]
    add(write_manifest(folder, rows), encoder)
    draw(folder / "film0.png", 99)  # other pixels
    drawn = Image.open(folder / "film1.png")
    drawn.load()
    drawn.save(folder / "film1.png", compress_level=1)  # the same pixels in another file
    rows[2]["sex"] = "O"
    rows[3]["report"] = "A new word altogether."
    changed = add(write_manifest(folder, rows), encoder)
    assert changed.embedded == {"image": 1, "report": 1, "sentence": 1, "term": 1, "patch": 0}
    assert changed.updated >= 2
    with Index.open() as index:
        assert verify(index).faults == []
        assert index.catalog.studies(["manifest:s2"])["manifest:s2"].sex == "O"


def test_what_a_study_no_longer_has_is_deleted_in_the_same_run(
    home: Path, tmp_path: Path, encoder: Encoder
) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    rows = [case(n, folder) for n in range(3)]
    rows[0]["report"] = "Only here said."
    extra = {"study_id": "s1", "image": "second.png"}
    draw(folder / "second.png", 77)
    add(write_manifest(folder, [*rows, extra]), encoder)
    rows[0]["report"] = rows[1]["report"]
    added = add(write_manifest(folder, rows), encoder)
    assert added.deleted == 2
    with Index.open() as index:
        assert verify(index).faults == []
        assert [i.item_id for i in index.catalog.items_of_studies(["manifest:s1"])["manifest:s1"]] == [
            "manifest:s1#film1",
            "manifest:s1#report",
        ]
        with index.catalog.engine.connect() as session:
            assert "Only here said." not in session.scalars(sa.select(SentenceRow.text)).all()


def test_a_removed_subject_is_nowhere(home: Path, tmp_path: Path, encoder: Encoder) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    rows = [case(n, folder) for n in range(6)]
    rows[0]["report"] = "Unique to this report."
    (folder / "film1.png").write_bytes(b"broken")
    add(write_manifest(folder, rows), encoder)
    with Index.open(read_only=False) as index:
        assert len(index.catalog.problems()) == 1
        removed = remove_subject(index, "manifest:p0")
        assert list(removed.studies) == ["manifest:s0", "manifest:s1"]
        assert removed.problems == 1
        assert index.catalog.problems() == []
        assert index.catalog.study_ids_of_subject("manifest:p0") == []
        assert verify(index).faults == []
        key = index.home.keyed("subject", "manifest:p0")
        assert all(p.payload.get("subject") != key for p in contents(index)["points"].values())
        remaining = index.home.folder / CACHE / "sam" / "checkpoint" / "film.npy"
        remaining.parent.mkdir(parents=True)
        remaining.write_bytes(b"the embedding of a subject's image")
        assert list(remove_study(index, "manifest:s2").studies) == ["manifest:s2"]
        assert not remaining.exists()
        assert remove_study(index, "manifest:s2").vectors == 0
        assert verify(index).faults == []
    if (home / "catalog.sqlite").exists():
        stored = b"".join(file.read_bytes() for file in home.glob("catalog.sqlite*"))
        assert b"Unique to this report" not in stored


def test_verify_finds_every_planted_fault(home: Path, tmp_path: Path, encoder: Encoder) -> None:
    add(cohort(tmp_path / "cases", 8), encoder)
    with Index.open(read_only=False) as index:
        assert verify(index).faults == []
        images, fingerprint = index.collection("image"), index.active_version.fingerprint
        ids = sorted(index.store.ids(images))
        stored = {p.id: p for p in index.store.fetch(images, ids)}
        stray = Point(index.home.point_id("nobody#x"), stored[ids[0]].vector, {"kind": "image"})
        index.store.upsert(images, [stray])
        index.store.set_payload(images, {ids[1]: {"kind": "image"}})
        index.store.delete(images, [ids[2]])
        _upsert_unchecked(index, images, ids[3], stored[ids[3]].payload)
        with index.catalog.engine.begin() as session:
            session.execute(sa.delete(LedgerRow).where(LedgerRow.point_id == ids[4]))
            session.execute(sa.update(ItemRow).where(ItemRow.point_id == ids[5]).values(content="0" * 64))
            lonely = {"point_id": index.home.point_id("gone#x"), "kind": "image"}
            hashes = {"content": "0" * 64, "attributes": "0" * 64}
            session.execute(sa.insert(LedgerRow).values(fingerprint=fingerprint, **lonely, **hashes))
            session.execute(sa.insert(TombstoneRow).values(collection=images, point_id=stray.id))
        found = {(fault.fault, fault.collection) for fault in verify(index).faults}
        assert {fault for fault, _ in found} == {
            "vector without ledger row",
            "payload differs",
            "ledger row without vector",
            "vector not of unit length",
            "item without ledger row",
            "content differs",
            "ledger row without item",
            "deletion pending",
        }


def _upsert_unchecked(index: Index, collection: str, point: Any, payload: Any) -> None:
    """Plant a vector that the store itself would refuse."""
    import qdrant_edge as engine

    bad = (np.ones(32, dtype=np.float32) * 3).tolist()
    store: Any = index.store
    if isinstance(store, ServerStore):
        record = PointStruct(id=str(point), vector=bad, payload=dict(payload))
        store._client.upsert(store._on_server(collection), [record], wait=True)
        return
    shard = store._shard(collection)
    shard.update(engine.UpdateOperation.upsert_points([engine.Point(point, bad, dict(payload))]))


def test_lost_vectors_are_made_again_and_orphans_leave(home: Path, tmp_path: Path, encoder: Encoder) -> None:
    source = cohort(tmp_path / "cases", 8)
    add(source, encoder)
    with Index.open(read_only=False) as index:
        before = contents(index)
        images = index.collection("image")
        lost = sorted(index.store.ids(images))[:3]
        remaining = next(i for i in index.store.ids(images) if i not in lost)
        index.store.delete(images, lost)
        (stored,) = index.store.fetch(images, [remaining])
        index.store.upsert(images, [Point(index.home.point_id("nobody#x"), stored.vector, {"kind": "image"})])
    assert add(source, encoder).embedded["image"] == 3
    assert add(source, encoder).embedded["image"] == 0
    with Index.open() as index:
        assert verify(index).faults == []
        assert contents(index)["ledger"] == before["ledger"]


@pytest.mark.parametrize(
    ("stage", "stop"),
    [
        ("encoded", Stopped),
        ("vectors", Stopped),
        ("vectors", KeyboardInterrupt),
        ("flushed", Stopped),
        ("committing", Stopped),
    ],
)
def test_a_run_that_is_stopped_in_order_leaves_nothing_half_done(
    home: Path,
    tmp_path: Path,
    encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    stage: Stage,
    stop: type[BaseException],
) -> None:
    monkeypatch.setattr(pipeline, "STEP_IMAGES", 2)
    source = cohort(tmp_path / "cases", 12)
    seen: list[Stage] = []

    def observe(now: Stage, _added: Added) -> None:
        seen.append(now)
        if now == stage and seen.count("vectors") >= 3:
            raise stop

    with pytest.raises(stop):
        add(source, encoder, observer=observe)
    with Index.open() as index:
        verified = verify(index)
        assert not verified.faults
        assert verified.vectors["image"] >= 4  # what was embedded before is kept
        remaining = dict(verified.vectors)
    assert add(source, encoder).embedded["image"] == 10 - remaining["image"]


def test_a_run_that_is_stopped_early_leaves_nothing_of_one_that_was_killed_before(
    home: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "STEP_IMAGES", 2)
    source = cohort(tmp_path / "cases", 12)

    class Killed(BaseException):
        """Nothing is put in order after it."""

    def killed(stage: Stage, added: Added) -> None:
        if stage == "vectors" and added.embedded["image"] >= 8:
            raise Killed

    def stopped(stage: Stage, added: Added) -> None:
        if stage == "vectors" and added.embedded["image"] >= 4:
            raise Stopped

    with pytest.raises(Killed):
        add(source, encoder, observer=killed)
    with Index.open() as index:
        assert {fault.fault for fault in verify(index).faults} == {"vector without ledger row"}
    with pytest.raises(Stopped):
        add(source, encoder, observer=stopped)
    with Index.open() as index:
        assert verify(index).faults == []
        assert verify(index).vectors["image"] < 8


def test_an_encoder_that_made_no_vectors_cannot_be_used_and_a_moved_one_can(
    home: Path, tmp_path: Path, encoder: Encoder
) -> None:
    source = cohort(tmp_path / "cases", 3)
    add(source, encoder)
    other = Encoder.load(build_tiny_encoder(tmp_path / "other", seed=5), "cpu")
    with pytest.raises(FingerprintMismatch, match=other.fingerprint[:8]):
        Index.open(encoder=other)
    with Index.open(read_only=False) as index:
        add_source(index, open_source(source), encoder, origin=source, folder="moved", workers=0)
        assert index.active_version.folder == "moved"
        assert len(index.catalog.versions()) == 1


def test_reports_without_images_and_images_without_reports_are_both_indexed(
    home: Path, tmp_path: Path, encoder: Encoder
) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    rows = [case(0, folder, report=False), case(1, folder, image=False)]
    rows.append({"study_id": "s2", "report": "XXXX XXXX"})
    added = add(write_manifest(folder, rows), encoder)
    assert (added.embedded["image"], added.embedded["report"]) == (1, 1)
    assert added.problems["skipped"] == 1
    with Index.open() as index:
        assert set(index.catalog.study_ids()) == {"manifest:s0", "manifest:s1"}


def test_a_problem_belongs_to_its_study_also_where_the_id_has_a_number_sign(
    home: Path, tmp_path: Path, encoder: Encoder
) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    rows = [case(n, folder) | {"study_id": f"s#{n}"} for n in range(2)]
    (folder / "film1.png").write_bytes(b"broken")
    (folder / "film0.png").unlink()
    add(write_manifest(folder, rows), encoder)
    with Index.open() as index, index.catalog.engine.connect() as session:
        stored = session.execute(sa.select(ProblemRow.item_id, ProblemRow.study_id)).all()
    assert {(item, study) for item, study in stored} == {
        (f"manifest:s#{n}#film{n}", f"manifest:s#{n}") for n in range(2)
    }
