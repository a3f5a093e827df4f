"""`similarity evaluate-drafts`: the command. Only click is imported until it runs."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from similarity.cli.console import print_json
from similarity.cli.options import SourceOptions, table_options
from similarity.cli.resources import open_index

EPILOG = """\b
Examples:
  similarity evaluate-drafts --queries nih-chestxray14:DIR --limit 100
  similarity evaluate-drafts --queries manifest:held-out.csv --truth gold.csv --json

The index should have been calibrated (`similarity index calibrate`). RadCliQ-v1 is printed if its inputs are
given: a JSON object of radgraph_f1, bertscore and chexbert_cosine, made by their own tools."""


@click.command("evaluate-drafts", epilog=EPILOG)
@click.option("--queries", metavar="SOURCE", required=True, help="Images to draft for (KIND:PATH).")
@click.option(
    "--truth",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Table of ground-truth findings; replaces the source's own.",
)
@click.option(
    "--gallery-truth",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Table of ground-truth findings of the index's reports, to score the baselines.",
)
@click.option("--limit", type=click.IntRange(1), help="Maximum number of images.")
@click.option("--allow-seen", is_flag=True, help="Also draft for subjects of the encoder's training.")
@click.option("--no-localize", "blind", is_flag=True, help="Do not localize.")
@click.option(
    "--radcliq",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON of RadCliQ-v1's other inputs for these drafts.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the bootstrap.")
@table_options
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def evaluate_drafts(
    queries: str,
    truth: Path | None,
    gallery_truth: Path | None,
    limit: int | None,
    allow_seen: bool,
    blind: bool,
    radcliq: Path | None,
    seed: int,
    options: SourceOptions,
    as_json: bool,
) -> None:
    """Measure drafts on held-out subjects, beside three baselines.

    Findings are scored by what a draft states, words against the reports of the images that have one.
    """
    from corpus.truth import read_truth

    source = options.open(queries)
    tables = [None if path is None else read_truth(path).statuses for path in (truth, gallery_truth)]
    others = None if radcliq is None else _read_inputs(radcliq)
    with open_index() as index:
        from retrieval.draft.evaluation import draft_source, embedding_similarity, per_finding, score_drafts
        from retrieval.localize.localizer import localize
        from retrieval.localize.specificity.calibration import UNTRAINED, find_calibration

        calibration = find_calibration(index.encoder.fingerprint, UNTRAINED, index.home.folder)

        drafts = draft_source(
            index,
            source,
            truth=tables[0],
            gallery_truth=tables[1],
            phrase_localizer=None if blind else partial(localize, calibration=calibration),
            limit=limit,
            allow_seen=allow_seen,
        )
        record = score_drafts(drafts, seed=seed)
        record["encoder"] = {"name": index.encoder.name, "fingerprint": index.encoder.fingerprint}
        for system, row in record["systems"].items():
            row["embedding_similarity"] = embedding_similarity(index, drafts, system)
        record["per_finding"] = per_finding(drafts.drafted)
    if others is not None:
        from retrieval.draft.metrics import radcliq as weigh

        words = record["systems"]["draft"]["words"] or {}
        record["radcliq_v1"] = weigh({**words, **others})
    if as_json:
        print_json(record, indent=2)
    else:
        click.echo(_table(record))


def _read_inputs(path: Path) -> dict[str, float]:
    import json

    from corpus.errors import UsageError

    try:
        inputs = json.loads(path.read_text("utf-8"))
        return {str(name): float(value) for name, value in inputs.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"--radcliq {path.name} is no JSON object of numbers: {error}") from error


_HEADS = ("precision", "recall", "F1", "95 %", "BLEU", "ROUGE-L", "words", "findings")


def _table(record: dict[str, Any]) -> str:
    """Return the record as a table of text."""
    counts = f"{record['drafts']} drafts of {record['subjects']} subjects"
    lines = [f"{counts}, {record['undrafted']} without any finding"]
    lines.append(f"{'':18}" + "".join(f"{head:>15}" for head in _HEADS))
    for system, row in record["systems"].items():
        found, words = row["findings"], row["words"]
        cells = ["", "", "", ""]
        if found:
            cells = [f"{found[name]:.3f}" for name in ("precision", "recall", "f1")]
            cells.append(" … ".join(f"{bound:.3f}" for bound in found["ci95"]))
        cells += [f"{words[name]:.3f}" for name in ("bleu", "rouge_l")] if words else ["", ""]
        cells += [f"{row['length']:.1f}", f"{row['claimed']:.2f}"]
        lines.append(f"{system.replace('_', ' '):18}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)
