"""The whole line once: phantoms → encoder → index → searches → evaluation → page."""

from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path

from corpus.settings import settings
from corpus.sources.phantom import PhantomSource
from indexer.index import Index
from indexer.ingest.pipeline import Added, Stage, add_source
from retrieval.answer import Answer
from retrieval.demo.page import Page, Panel, write
from retrieval.demo.plan import Plan, own_home
from retrieval.demo.progress import Steps, Tick
from retrieval.demo.scores import evaluations
from retrieval.demo.searches import Question, panel, questions
from retrieval.query.query import Query
from retrieval.search import search
from trainer import recipes
from trainer.runtime.encoder import Encoder
from trainer.train.config import TrainConfig, read_config
from trainer.train.loop import Progress, train

_EVALUATED = 0.5  # people evaluated on, as a share of those indexed


def demonstrate(plan: Plan, steps: Steps) -> Path:
    """Run a demonstration in a folder that `prepare` made ready, and return its page.

    Raises:
        UsageError: the cohort is too small to ask of.
    """
    asked = questions(plan.seed, plan.studies, plan.seed + 1)  # refuses a cohort too small to ask of
    with own_home(plan.out / "home"):
        with steps.step(
            "training", f"Training a small encoder from scratch on {plan.studies} phantoms"
        ) as tick:
            folder = train(
                recipe(plan),
                plan.out / "train",
                lambda progress: _trained(progress, tick),
            )
        encoder = Encoder.load(folder, settings().device)
        with Index.open(read_only=False) as index:
            with steps.step("indexing", f"Indexing {plan.studies} studies") as tick:
                added = add_source(
                    index,
                    PhantomSource(plan.studies, plan.seed),
                    encoder,
                    origin=_cohort(plan),
                    folder=str(folder),
                    observer=lambda stage, so_far: _indexed(stage, so_far, plan.studies, tick),
                )
            index.use(encoder)
            with steps.step("searching", "Searching: one search of each kind") as tick:
                panels = _searches(index, asked, tick)
        with steps.step("evaluating", "Evaluating on people whom the encoder never saw") as tick:
            fresh = PhantomSource(int(plan.studies * _EVALUATED), plan.seed + 1)
            scores = evaluations(encoder, fresh, tick)
    page = plan.out / "page.html"
    facts = _facts(plan, steps, added)
    page.write_text(
        write(
            Page(facts, tuple(panels), tuple(scores), _commands(plan, folder), version("similarity-engine"))
        ),
        encoding="utf-8",
    )
    return page


def recipe(plan: Plan) -> TrainConfig:
    """What learns phantoms in a minute or two: the packaged recipe, on the plan's cohort."""
    settled = {"corpus": (_cohort(plan),), "epochs": plan.epochs, "seed": plan.seed}
    with as_file(files(recipes) / "phantom.toml") as file:
        return read_config(file, settled)


def _searches(index: Index, asked: Sequence[Question], tick: Tick) -> list[Panel]:
    _warm(index)
    panels = []
    for number, question in enumerate(asked):
        tick(number, len(asked), question.heading)
        panels.append(panel(index, question))
    return panels


def _warm(index: Index) -> Answer:
    """Ask once before anything is timed: the first pass through a network is slow."""
    search(index, Query(image="phantom://0/0", k=1))
    return search(index, Query(text="effusion", k=1))


def _trained(progress: Progress, tick: Tick) -> None:
    tick(progress.done, progress.total, f"{progress.stage} {progress.note}".strip())


def _indexed(stage: Stage, added: Added, studies: int, tick: Tick) -> None:
    if stage == "committed":
        tick(added.studies, studies, "studies")


def _cohort(plan: Plan) -> str:
    return f"phantom:{plan.studies}@{plan.seed}"


def _facts(plan: Plan, steps: Steps, added: Added) -> tuple[tuple[str, str], ...]:
    return (
        ("Studies indexed", f"{added.studies:,}"),
        ("Vectors", f"{sum(added.embedded.values()):,}"),
        ("Training from scratch", f"{steps.seconds['training']:.0f} s, {plan.epochs} epochs"),
        ("Indexing", f"{steps.seconds['indexing']:.0f} s"),
        ("All together", f"{sum(steps.seconds.values()):.0f} s"),
    )


def _commands(plan: Plan, folder: Path) -> tuple[str, ...]:
    return (
        f"export SIMILARITY_HOME={plan.out / 'home'}",
        f"similarity train --config {plan.out / 'train' / 'config.toml'} --out {plan.out / 'again'}",
        f"similarity index add {_cohort(plan)} --encoder {folder}",
        'similarity search --text "There is a large right pleural effusion." --for images -k 5',
        f"similarity search --image phantom://{plan.seed + 1}/0 --for cases -k 5",
        f"similarity evaluate --encoder {folder} --queries phantom:300@{plan.seed + 1} "
        f"--gallery phantom:300@{plan.seed + 1} --split all",
    )
