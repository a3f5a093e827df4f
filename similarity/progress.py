"""Progress of `index add`: the counts of a run, as the one progress protocol has them."""

from corpus.progress import OnProgress
from indexer.ingest.pipeline import Added, Observer, Stage


def added_progress(on_progress: OnProgress) -> Observer:
    """Return an observer of a run that reports its counts."""

    def observe(_stage: Stage, added: Added) -> None:
        vectors = ", ".join(f"{n} {kind}s" for kind, n in added.embedded.items())
        on_progress("studies", added.studies, None, f"embedded {vectors}" if vectors else "")

    return observe
