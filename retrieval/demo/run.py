"""The demonstration: phantoms → encoder → index → searches → localization → draft → evaluation → page."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import Protocol

from corpus.progress import OnProgress
from corpus.settings import settings
from corpus.sources.phantom import PhantomSource
from indexer.index import Index
from indexer.ingest.added import Added, Stage
from indexer.ingest.pipeline import add_source
from retrieval.demo.evaluation import evaluate, score_tables
from retrieval.demo.evidence import (
    METHOD,
    correspondence_evidence,
    draft_panel,
    localization_evidence,
)
from retrieval.demo.page import DraftPanel, Evidence, Page, Panel, write
from retrieval.demo.plan import SUMMARY, Plan, own_home
from retrieval.demo.searches import Question, answer_panel, questions, run_searches
from retrieval.localize.specificity.calibration import SpecificityCalibration, save_calibration
from retrieval.localize.specificity.calibration_fit import calibrate as calibrate_localization
from retrieval.reliability.fit import calibrate as calibrate_index
from trainer import recipes
from trainer.runtime.encoder import Encoder
from trainer.train.config import TrainConfig
from trainer.train.config_file import read_config
from trainer.train.loop import train

STEPS = 5


class Steps(Protocol):
    """The progress of a demonstration's steps. `seconds`: name → how long a finished step took."""

    seconds: dict[str, float]

    def step(self, name: str, title: str) -> AbstractContextManager[OnProgress]:
        """Show one step, under its title, while the block runs."""


def demonstrate(plan: Plan, steps: Steps) -> Path:
    """Run a demonstration in a folder that `prepare` made ready, and return its page.

    Args:
        plan: the cohorts and the folder.
        steps: shows the progress; there are `STEPS`.

    Raises:
        UsageError: the cohorts are too small to search for something.
    """
    chosen = questions(plan)  # refuses cohorts that are too small before anything is trained
    with own_home(plan.out / "home"):
        with steps.step(
            "training", f"Training an encoder from scratch on {plan.studies} phantoms"
        ) as advance:
            folder = train(training_config(plan), plan.out / "train", advance)
        encoder = Encoder.load(folder, settings().device)
        with Index.open(read_only=False) as index:
            with steps.step("indexing", f"Indexing an archive of {plan.archive} other studies") as advance:
                added = _add_archive(index, encoder, folder, plan, advance)
            index.use(encoder)
            with steps.step("calibrating", "Calibrating searches, drafts and masks") as advance:
                calibrate_index(index, advance)
                calibration = _calibrate_localization(encoder, plan, advance)
            with steps.step("searching", "Searching, localizing and drafting") as advance:
                cases, evidence, drafted, searches = _answers(index, chosen, calibration, advance)
        with steps.step("evaluating", "Evaluating on held-out patients") as advance:
            records = evaluate(encoder, PhantomSource(plan.held_out, plan.held_out_seed), advance)
    panels = (cases, *searches)
    page = plan.out / "page.html"
    content = Page(
        facts=_facts(plan, steps, added),
        cases=cases,
        evidence=tuple(evidence),
        draft=drafted,
        searches=tuple(searches),
        agreement=f"{sum(panel.first_agrees for panel in panels)} of {len(panels)} searches",
        scores=tuple(score_tables(records)),
        own_commands=OWN_COMMANDS,
        own_python=OWN_PYTHON,
        commands=_commands(plan, folder),
        version=version("similarity-engine"),
    )
    page.write_text(write(content), encoding="utf-8")
    summary = {
        "first_hits_agree": [panel.first_agrees for panel in panels],
        "seconds": steps.seconds,
        **records,
    }
    (plan.out / SUMMARY).write_text(json.dumps(summary, indent=2), encoding="utf-8")
    return page


def training_config(plan: Plan) -> TrainConfig:
    """The packaged recipe and architecture, on the plan's training cohort."""
    overrides = {
        "corpus": (_cohort(plan.studies, plan.seed),),
        "epochs": plan.epochs,
        "seed": plan.seed,
    }
    with (
        as_file(files(recipes) / "demo.toml") as recipe,
        as_file(files("retrieval.demo") / "patches-128.json") as architecture,
    ):
        return read_config(recipe, {**overrides, "arch": str(architecture)})


def _add_archive(index: Index, encoder: Encoder, folder: Path, plan: Plan, advance: OnProgress) -> Added:
    def observe(stage: Stage, added: Added) -> None:
        if stage == "committed":
            advance("studies", added.studies, plan.archive)

    return add_source(
        index,
        PhantomSource(plan.archive, plan.archive_seed),
        encoder,
        origin=_cohort(plan.archive, plan.archive_seed),
        folder=str(folder),
        observer=observe,
    )


def _calibrate_localization(encoder: Encoder, plan: Plan, advance: OnProgress) -> SpecificityCalibration:
    """Fit on a cohort of its own when a mask is returned, and store that beside the index."""
    fitted = calibrate_localization(
        encoder,
        PhantomSource(2 * plan.calibration, plan.calibration_seed).studies(lambda problem: None),
        METHOD,
        most=plan.calibration,
        on_progress=advance,
    )
    save_calibration(fitted, encoder.fingerprint, METHOD)
    return fitted


def _answers(
    index: Index, queries: Sequence[Question], calibration: SpecificityCalibration, advance: OnProgress
) -> tuple[Panel, list[Evidence], DraftPanel, list[Panel]]:
    """The search for cases with its evidence and its draft, and the other searches."""
    advance("searches", 0, len(queries))
    answers = run_searches(index, queries)
    cases, *searches = [
        answer_panel(question, answer) for question, answer in zip(queries, answers, strict=True)
    ]
    first = queries[0]
    advance("localization", 0, 0)
    evidence = [localization_evidence(index, first, calibration)]
    if answers[0].hits:
        evidence.append(correspondence_evidence(index, first, answers[0].hits[0]))
    advance("draft", 0, 0)
    return cases, evidence, draft_panel(index, first), searches


def _cohort(count: int, seed: int) -> str:
    return f"phantom:{count}@{seed}"


def _facts(plan: Plan, steps: Steps, added: Added) -> tuple[tuple[str, str], ...]:
    return (
        ("Studies trained on", f"{plan.studies:,}"),
        ("Studies in the archive", f"{added.studies:,}"),
        ("Vectors", f"{sum(added.embedded.values()):,}"),
        ("Training from scratch", f"{steps.seconds['training']:.0f} s, {plan.epochs} epochs"),
        ("Indexing", f"{steps.seconds['indexing']:.0f} s"),
        ("All together", f"{sum(steps.seconds.values()):.0f} s"),
    )


OWN_COMMANDS = (
    "similarity encoders pull biomedclip          # or train your own: similarity train --help",
    "similarity index add dicom:FOLDER --reports reports.csv --encoder biomedclip",
    "similarity search --image new.dcm --for cases -k 5",
)
OWN_PYTHON = """import similarity as sim
encoder = sim.load_encoder("biomedclip", download=True)
with sim.Index.open("my-archive", encoder=encoder) as index:
    index.add("dicom:FOLDER", reports="reports.csv")
    index.search("new.dcm", k=5).show()"""


def _commands(plan: Plan, folder: Path) -> tuple[str, ...]:
    held_out = _cohort(plan.held_out, plan.held_out_seed)
    return (
        f"export SIMILARITY_HOME={plan.out / 'home'}",
        f"similarity train --config {plan.out / 'train' / 'config.toml'} --out {plan.out / 'again'}",
        f"similarity index add {_cohort(plan.archive, plan.archive_seed)} --encoder {folder}",
        "similarity index calibrate",
        f"similarity localize --calibrate {_cohort(plan.calibration, plan.calibration_seed)} "
        f"--encoder {folder} --method {METHOD}",
        'similarity search --text "There is a large right pleural effusion." --for images -k 5',
        f"similarity search --image phantom://{plan.held_out_seed}/0 --for cases -k 5",
        f"similarity evaluate --encoder {folder} --queries {held_out} --gallery {held_out} --split all",
    )
