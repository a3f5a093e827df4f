# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train and evaluate
#
# Train an encoder from scratch on drawn radiographs, measure it beside its baselines on other phantoms, and
# compare two losses. Training and evaluation are commands; a notebook runs them in its own process.

# %%
import json
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl

from similarity.cli.main import cli

STUDIES, EPOCHS = 60, 1  # a toy; 700 and 16 give an encoder that tells findings apart


def similarity(command: str) -> str:
    """Run a command of the command line in this process; return what it prints."""
    printed = StringIO()
    with redirect_stdout(printed):
        cli.main(shlex.split(command), prog_name="similarity", standalone_mode=False)
    return printed.getvalue()


# %% [markdown]
# ## Train
#
# `semantic-matching` is MedCLIP's loss: images and texts are sampled independently and matched by findings.
# `infonce` learns from true pairs.

# %%
for name, loss in {"example": "semantic-matching", "infonce": "infonce"}.items():
    if not Path(f"runs/{name}").exists():
        settings = f"--arch tiny --loss {loss} --epochs {EPOCHS}"
        similarity(f"train --corpus phantom:{STUDIES}@1 {settings} --out runs/{name}")
sorted(file.name for file in Path("runs/example").iterdir())

# %% [markdown]
# A run writes its resolved configuration, its metrics and curves, checkpoints and the encoder, which loads in
# plain open_clip.

# %%
pl.read_csv("runs/example/metrics.csv")

# %% [markdown]
# ## Evaluate
#
# Queries and gallery are phantoms of another seed. `--json` has per-finding results, subgroups and intervals
# (bootstrap over patients) as well.


# %%
def evaluate(name: str) -> dict[str, Any]:
    """Return the record of an evaluation."""
    cohort = "phantom:60@3"
    printed = similarity(
        f"evaluate --encoder runs/{name} --queries {cohort} --gallery {cohort} --split all --json"
    )
    record: dict[str, Any] = json.loads(printed)
    return record


records = {name: evaluate(name) for name in ("example", "infonce")}
sorted(records["example"])

# %%
rows = [
    {"encoder": name, "P@1": record["precision_at"]["1"], "nDCG@10": record["ndcg_at_10"]}
    for name, record in records.items()
]
rows += [
    {"encoder": name, "P@1": baseline["precision_at"]["1"], "nDCG@10": baseline["ndcg_at_10"]}
    for name, baseline in records["example"]["baselines"].items()
]
pl.DataFrame(rows)
