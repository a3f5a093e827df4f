"""What an index holds, as `index status` and the Python API say it."""

from pathlib import Path
from typing import Any, get_args

from corpus.records import ItemState
from indexer.catalog.catalog import Catalog
from indexer.catalog.ledger import KINDS


def status_of(home: Path, catalog: Catalog, *, failed: bool = False) -> dict[str, Any]:
    """Return the form of `docs/contracts/index-status.schema.json`.

    Args:
        home: its folder.
        catalog: of the index.
        failed: with `items`: every item that is not in the index, or is noted, and why.
    """
    counts = catalog.counts()
    status: dict[str, Any] = {
        "home": str(home),
        "versions": [
            {
                "name": version.name,
                "fingerprint": version.fingerprint,
                "dim": version.dim,
                "folder": version.folder,
                "state": version.state,
            }
            for version in catalog.versions()
        ],
        "studies": counts["studies"],
        "vectors": {kind: counts["vectors"].get(kind, 0) for kind in KINDS},
        "problems": {state: counts["problems"].get(state, 0) for state in get_args(ItemState)},
        "reports": catalog.report_languages().as_json(),
    }
    if failed:
        status["items"] = [
            {
                "item_id": problem.item_id,
                "state": problem.state,
                "reason": problem.reason,
                "location": problem.location,
            }
            for problem in catalog.problems()
        ]
    return status
