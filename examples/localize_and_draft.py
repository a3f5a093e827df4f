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
# # Localize and draft
#
# Show where in an image a finding lies, and draft a report from the nearest cases. A draft is raw material
# for a reader, never a report. Research software, not a medical device.

# %%
import shlex
from pathlib import Path

import matplotlib.pyplot as plt

import similarity as sim
from similarity.cli.main import cli

STUDIES, EPOCHS = 60, 1  # a toy; trainer/recipes/localize.toml trains an encoder that localizes
ENCODER = Path("runs/example")


def similarity(command: str) -> None:
    """Run a command of the command line in this process."""
    cli.main(shlex.split(command), prog_name="similarity", standalone_mode=False)


if not ENCODER.exists():
    similarity(f"train --corpus phantom:{STUDIES}@1 --arch tiny --epochs {EPOCHS} --out {ENCODER}")

# %% [markdown]
# ## Localize, without an index
#
# The map has the size of the image and values in [0, 1]. A mask is returned only where the map answers to the
# phrase; otherwise `reason` says why there is none.

# %%
encoder = sim.load_encoder(ENCODER)
image = "phantom://3/5"
result = sim.localize(encoder, image, "pleural effusion", method="patches", refine="random-walker")
print(result.map.shape, result.map.dtype, "mask:", result.mask is not None)
print(result.words or result.reason)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
left.imshow(sim.read_image(image), cmap="gray")
right.imshow(result.overlay(heat=True))
for axes in (left, right):
    axes.axis("off")
plt.close(figure)
figure

# %% [markdown]
# Several phrases share one pass through the encoder.

# %%
for found in sim.localize(encoder, image, ["nodule", "pneumothorax"], method="patches", refine="none"):
    print(f"{found.phrase:<14} specificity {found.specificity:.2f}, mask from {found.threshold:.2f}")

# %% [markdown]
# ## Localize in a hit, and draft
#
# `index.calibrate()` learns from the index's own images what votes are worth. It needs at least 100 patients
# for an out-of-distribution detector and 200 for a conformal guarantee; this toy index has fewer.

# %%
with sim.Index.open("home-drafts", encoder=encoder) as index:
    index.add("phantom:30@2", workers=0)
    index.calibrate()
    hit = index.search(image, k=3)[0]
    print(index.localize(hit, "cardiomegaly", method="patches", refine="none").reason or "a mask")
    draft = index.draft(image, k=10)
print(draft.text())

# %% [markdown]
# Each sentence has its sources; findings that were not assessed are listed.

# %%
for statement in draft.statements:
    print(statement.as_json()["text"], "←", [source["study_id"] for source in statement.as_json()["sources"]])
draft.not_assessed
