"""An `index-add` job applies its options for tables, and its outcome has their notices."""

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from corpus.worker import command
from indexer.catalog.database import open_database
from indexer.catalog.jobs import Jobs, JobState
from indexer.home import Home
from retrieval.service.routes.jobs import JobRequest

CONTRACTS = Path(__file__).parents[3] / "docs" / "contracts"


def do(job_id: str) -> None:
    """Run a job in a process of its own, as the service does."""
    with subprocess.Popen(
        command("retrieval.service.job_worker:main", job_id), stdin=subprocess.PIPE
    ) as working:  # it ends when its stdin does
        assert working.wait() == 0


def test_a_job_applies_its_options_for_tables(home: Path, tmp_path: Path, encoder_folder: Path) -> None:
    text = "StudyID,report,date\n1,Größe unverändert. No effusion.,5/6/2019\n2,Edema.,7/8/2019\n"
    (tmp_path / "m.csv").write_bytes(text.encode("cp850"))
    options = {
        "source": f"manifest:{tmp_path / 'm.csv'}",
        "encoder": str(encoder_folder),
        "encoding": "cp850",
    }
    engine = open_database(Home.open(home))
    jobs = Jobs(engine)
    try:
        for dates, state in ((None, JobState.FAILED), ("day_first", JobState.DONE)):
            queued = jobs.queue("index-add", {**options, "dates": dates}, "tests")
            taken = jobs.take()
            assert taken is not None
            do(queued.job_id)
            ended = jobs.get(queued.job_id)
            assert ended is not None
            assert ended.state is state, ended.error
            assert (ended.error is None) == (state is JobState.DONE)
    finally:
        engine.dispose()
    assert ended.outcome is not None
    jsonschema.validate(ended.outcome, json.loads((CONTRACTS / "index-add.schema.json").read_text("utf-8")))
    assert [notice["kind"] for notice in ended.outcome["notices"]] == ["column", "subject"]


@pytest.mark.parametrize("name", ["encoding", "dates"])
def test_only_index_add_takes_options_for_tables(name: str) -> None:
    with pytest.raises(ValidationError, match="options of index-add"):
        JobRequest.model_validate({"kind": "index-verify", name: "utf-8"})
