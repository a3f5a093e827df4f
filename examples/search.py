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
# # Search
#
# Index a cohort of drawn radiographs with reports, and search it by image, text, case and finding. Research
# software, not a medical device.

# %%
import shlex
from pathlib import Path

import similarity as sim
from similarity.cli.main import cli

STUDIES, EPOCHS = 60, 1  # a toy; 700 and 16 give an encoder that tells findings apart
ENCODER = Path("runs/example")


def similarity(command: str) -> None:
    """Run a command of the command line in this process."""
    cli.main(shlex.split(command), prog_name="similarity", standalone_mode=False)


if not ENCODER.exists():
    similarity(f"train --corpus phantom:{STUDIES}@1 --arch tiny --epochs {EPOCHS} --out {ENCODER}")

# %% [markdown]
# ## Index
#
# A source is `KIND:PATH`; your own is `dicom:DIR` or `manifest:FILE`. Adding it again embeds new and changed
# items only.

# %%
index = sim.Index.open("home", encoder=ENCODER)
added = index.add("phantom:24@2", patches=True, workers=0)
print(added.studies, "studies added;", sum(added.problems.values()), "problems")
index.status()["studies"]

# %% [markdown]
# ## By text
#
# A phrase is read as a report is: finding, laterality, zone, severity, negation.

# %%
answer = index.search("right pleural effusion", k=5)
answer

# %%
answer.to_polars().select("rank", "score", "study_id", "present", "age", "sex")

# %% [markdown]
# Each hit lists what its score is made of.

# %%
for evidence in answer[0].evidence:
    print(f"{evidence.kind:<10} {evidence.score:7.3f}  contributes {evidence.contributed}")

# %% [markdown]
# ## By image
#
# A file, a Pillow image or an array (height, width), float in [0, 1] or integer.

# %%
image = sim.read_image("phantom://3/5")
print(image.shape, image.dtype, float(image.min()), float(image.max()))
index.search(image, target="images", k=4)

# %% [markdown]
# An image and a phrase add up; a filter restricts the gallery.

# %%
index.search(image, text="without effusion", where="age>=40 and not finding=pneumothorax", k=4)

# %% [markdown]
# ## By case, by examples, by finding, by region

# %%
case = answer[0].case.study_id
similar = index.search(case=case, k=3)
steered = index.search(case=case, dislike=[similar[0].case.study_id], k=3)
both = index.search(finding="effusion and not pneumothorax", target="reports", k=3)
region = index.search(
    sim.Query(image="phantom://3/5", region=sim.Box(60, 70, 130, 150), target="images", k=3)
)
for name, hits in {"similar": similar, "steered": steered, "finding": both, "region": region}.items():
    print(f"{name:<8}", [hit.case.study_id for hit in hits])

# %%
index.close()
