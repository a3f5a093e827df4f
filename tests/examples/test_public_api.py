"""The public API as a user writes it: one unguarded script over a folder of DICOM files."""

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.dicom_export import write_export
from tests.encoders import build_tiny_encoder

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import numpy as np
from PIL import Image
import similarity as sim

print("started")
encoder = sim.load_encoder("encoder")
with sim.Index.open("home", encoder=encoder) as index:
    added = index.add("dicom:export", reports="reports.csv")
    assert (added.studies, sum(added.problems.values())) == (4, 0), added
    index.add(sim.open_source("phantom:2@5"), workers=0)
    answer = index.search("small right pleural effusion", k=5, where="sex=F and age>=42")
    assert [hit.rank for hit in answer] == list(range(1, len(answer) + 1))
    assert all(hit.case.attributes["sex"] == "F" for hit in answer)
    assert answer.to_polars().height == len(answer) >= 2
    image = sim.read_image("export/1.dcm")
    assert image.ndim == 2 and image.dtype == np.float32
    both = sim.Query(image="export/1.dcm", text="without tubes")
    queries = ["export/1.dcm", Image.open("query.png"), image, both]
    for query in queries:
        text = None if isinstance(query, sim.Query) else "without tubes"
        assert len(index.search(query, text=text)) >= 3
    answer.show()
    found = index.localize(answer[0], "pleural effusion", refine="none", method="patches")
    assert found.map.dtype == np.float32
    assert found.mask is None or found.mask.dtype == bool
    assert found.side in (None, "left", "right", "both")
    assert found.overlay().shape[2] == 3
    assert index.draft(image).text().startswith("DRAFT")
with sim.Index.open("home", read_only=True) as index:
    assert index.verify().faults == []
    print(sorted(index.status()["studies"].items()))
"""


def test_the_script_of_the_public_api_runs_once_and_without_a_main_guard(tmp_path: Path) -> None:
    write_export(tmp_path)
    build_tiny_encoder(tmp_path / "encoder")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    query = "import similarity as sim, numpy as np; from PIL import Image; "
    query += "Image.fromarray(np.rint(sim.read_image('export/2.dcm') * 255).astype('u1')).save('query.png')\n"
    (tmp_path / "script.py").write_text(query + SCRIPT, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SIMILARITY_HOME": str(tmp_path / "unused")},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "started"
    assert result.stdout.count("started") == 1
    assert result.stdout.splitlines()[-1] == "[('dicom', 4), ('phantom', 2)]"
