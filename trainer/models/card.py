"""The model card of an encoder: use, training data, evaluation, settings, limits."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

LIMITS = """## Limits

**Not a medical device.** Research software: not for diagnosis, triage or treatment. Similar images
can show different diseases. The encoder was measured only on the data named here, not on other machines,
views, ages and populations. It encodes every image, also one that is no chest radiograph."""

PLAIN_OPEN_CLIP = """In plain open_clip, wherever the folder lies:

```python
import json
import open_clip
from pathlib import Path

folder = "."  # where this folder lies
config = json.loads(Path(folder, "open_clip_config.json").read_text("utf-8"))["model_cfg"]
text, vision = config["text_cfg"], config["vision_cfg"]
if "hf_model_name" in text:  # a BERT-shaped text tower: open_clip looks for its config.json where this says
    text |= {"hf_model_name": folder, "hf_model_pretrained": False}
if str(vision.get("timm_model_name")).startswith("local-dir:"):  # an image trunk with arguments of its own
    vision |= {"timm_model_name": f"local-dir:{folder}/trunk"}
model, _, preprocess = open_clip.create_model_and_transforms(
    f"local-dir:{folder}", text_cfg=text, vision_cfg=vision
)
tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
```

While the folder is where it was made, or was last opened by Similarity, `local-dir:FOLDER` alone does it."""

_HEADLINES = (("P@1", "1"), ("P@2", "2"), ("P@5", "5"), ("P@10", "10"))
_MEANINGS = {
    "precision_at_1": "Share of images where the first report has a finding in common, or both are normal",
    "lift_at_5": "Share of the first five reports with a finding, for queries with it minus without it",
    "ndcg_at_10": "Ranking of the first ten reports by findings in common",
    "loss": "Training loss, mean of the epoch",
    "epoch": "Epoch of these weights",
    "step": "Steps until then",
    "seconds": "Seconds of training until then",
}
_NOTHING = "–"


def model_card(record: Mapping[str, Any]) -> str:
    """Write the model card of a record (the content of `similarity.json`), in Markdown.

    Evaluations come from `metrics` and `epochs`, which training writes, and from `evaluations`, a list of
    records of `similarity evaluate --json`.
    """
    parts = [
        f"# {record['name']}",
        "Images and reports of chest radiographs as unit vectors in one space, for retrieval.",
        f"Architecture `{record['architecture']}`, fingerprint `{record['fingerprint'][:8]}`. "
        "Made with Similarity. **Not a medical device.**",
        "## Use",
        "`similarity index add SOURCE --encoder FOLDER`, then `similarity search`.",
        PLAIN_OPEN_CLIP if record.get("plain_open_clip", True) else "Plain open_clip cannot read it.",
        *_data(record),
        *_evaluation(record),
        *_training(record),
        LIMITS,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _data(record: Mapping[str, Any]) -> Iterator[str]:
    """The training data: sources with counts and licences, subjects, unreadable items."""
    if not record.get("data"):
        yield from ("## Licence", str(record["licence"])) if record.get("licence") else ()
        return
    yield "## Training data"
    yield _table_of(record["data"])
    subjects = len((record.get("subjects") or {}).get("hashes", ()))
    if subjects:
        yield f"{subjects} subjects, stored as keyed hashes, so that evaluations can count training overlap."
    if record.get("problems"):
        yield "Left out: " + ", ".join(f"{n} {state}" for state, n in record["problems"].items()) + "."
    yield str(record.get("licence", ""))


def _evaluation(record: Mapping[str, Any]) -> Iterator[str]:
    """The scores: on the subjects held out for tuning, and of evaluations."""
    metrics = dict(record.get("metrics") or {})
    evaluations = list(record.get("evaluations") or ())
    if not (metrics or evaluations):
        return
    yield "## Evaluation"
    for result in evaluations:
        yield from _retrieval(result)
    for title, content in metrics.items():
        yield f"### {_words(title).capitalize()}"
        if title == "held_out_for_tuning":
            yield (
                "Training selected the epoch on these subjects, so the scores are optimistic; prefer an "
                "evaluation on other subjects."
            )
        rows = [(_words(key), value, _MEANINGS.get(key, "")) for key, value in _flat(content)]
        yield _table(("", "value", ""), rows)
    if record.get("epochs"):
        yield _folded("Every epoch", _table_of(record["epochs"]))


def _retrieval(result: Mapping[str, Any]) -> Iterator[str]:
    """One evaluation: the encoder with its intervals and the baselines, then each finding."""
    queries, gallery = result["queries"], result["gallery"]
    yield f"### {queries['source']} → {gallery['source']}"
    overlap = result.get("seen_subjects", 0)
    yield (
        f"{queries['items']} query {queries['kind']}s of {queries['subjects']} subjects, {gallery['items']} "
        f"gallery {gallery['kind']}s; {result.get('split', 'all')} split, training overlap "
        f"{overlap or 'none'}. Intervals: 95 %, bootstrap over subjects."
    )
    rows = {"this encoder": result, "95 %": result.get("ci95") or {}, **(result.get("baselines") or {})}
    yield _table(
        ("", *(heading for heading, _ in _HEADLINES), "macro lift@5", "nDCG@10"),
        ((_words(name), *_headline(row)) for name, row in rows.items()),
    )
    columns = ("finding", "queries", "gallery", "precision_at_5", "lift_at_5", "ci95")
    found = [{key: row.get(key) for key in columns} for row in result.get("per_finding") or ()]
    if found:
        yield _folded("Finding by finding", _table_of(found))


def _headline(row: Mapping[str, Any]) -> list[Any]:
    precision, lift = row.get("precision_at") or {}, row.get("lift_at_5") or {}
    return [*(precision.get(k) for _, k in _HEADLINES), lift.get("macro"), row.get("ndcg_at_10")]


def _training(record: Mapping[str, Any]) -> Iterator[str]:
    """The initial weights and every setting of the training."""
    if not (record.get("starts") or record.get("config")):
        return
    yield "## Training"
    if record.get("starts"):
        starts = ((f"{part} tower", f"`{_public(start)}`") for part, start in record["starts"].items())
        yield _table(("", "started from"), starts)
    if record.get("config"):
        settings = ((f"`{name}`", value) for name, value in _flat(record["config"]))
        yield _folded("Every setting", _table(("setting", "value"), settings))


def _public(start: str) -> str:
    """The initial weights of a tower, without folders of the training machine."""
    return PurePath(start).name if str(start).startswith(("/", ".", "~")) else str(start)


def _table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of rows with a column for every key."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return _table(
        [_words(column) for column in columns], ([row.get(column) for column in columns] for row in rows)
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [headings, ["---"] * len(headings), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    """A value as the text of a table cell; an interval as `0.50 … 0.62`."""
    if value is None or value == "":
        return _NOTHING if value is None else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_cell(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        if len(value) == 2 and all(isinstance(bound, float) for bound in value):
            return f"{value[0]:.2f} … {value[1]:.2f}"
        return ", ".join(_cell(part) for part in value)
    return " ".join(str(value).split()).replace("|", "\\|")


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def _flat(content: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """`{"loss": {"name": "x"}}` → `("loss.name", "x")`."""
    if not isinstance(content, Mapping):
        yield above, content
        return
    for key, value in content.items():
        yield from _flat(value, f"{above}.{key}" if above else str(key))


def _words(name: str) -> str:
    return name.replace("_", " ")
