"""The model card: what an encoder is, what it was trained on, how it was measured, what it is not for."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

LIMITS = """## Limits

**Not a medical device.** Research software: not for diagnosis, triage or treatment. Likeness of pictures is
not sameness of disease. It was measured only on the data named here; other machines, views, ages and
populations are unknown to it. The encoder answers every query, also one that is no chest radiograph."""


def model_card(record: Mapping[str, Any]) -> str:
    """Write the model card of a record (the content of `similarity.json`), in Markdown."""
    parts = [
        f"# {record['name']}",
        "Pictures and reports of chest radiographs as unit vectors in one space, for retrieval.",
        f"Architecture `{record['architecture']}`, fingerprint `{record['fingerprint'][:8]}`. "
        "Made with Similarity; reads in plain open_clip "
        "(after a move, once it was opened by `similarity`).",
    ]
    if record.get("data"):
        parts += ["## Training data", _data_table(record["data"]), str(record.get("licence", ""))]
    if record.get("metrics"):
        parts += ["## Evaluation", _fenced(record["metrics"])]
    if record.get("config"):
        parts += ["## Training configuration", _fenced(record["config"])]
    return "\n\n".join([*filter(None, parts), LIMITS]) + "\n"


def _data_table(data: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in data for key in row))
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(row.get(column, '')) for column in columns)} |" for row in data]
    return "\n".join(lines)


def _fenced(content: Any) -> str:
    return f"```json\n{json.dumps(content, indent=2, ensure_ascii=False, default=str)}\n```"
