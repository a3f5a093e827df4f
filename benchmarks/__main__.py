"""Run every benchmark, one after another: `python -m benchmarks --data DIR`."""

import argparse
import subprocess
import sys

EVERY = (
    "demo",
    "labeler",
    "decode",
    "pipeline",
    "ingest",
    "search_vectors",
    "hybrid_search",
    "text_search",
    "region_search",
    "throughput",
    "inference",
    "cold_start",
    "encoder",
    "comparison",
    "claims",
    "saliency",
    "specificity",
    "severity",
    "uploads",
    "service_load",
    "drafts",
    "ood",
    "guarantee",
    "localization",
    "sam",
    "segmenter",
)


def main() -> None:
    """Run each in its own process, so that none warms another's caches; stop at the first failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data")
    options = parser.parse_args()
    for name in EVERY:
        print(f"\n== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--data", options.data], check=True)


if __name__ == "__main__":
    main()
