"""Run the demonstration as it is shipped and check what it promises. Exits with 1 below a promise.

    python -m benchmarks.demo [--out runs/demo]

An `--out` with a finished demonstration is checked as it is. The suite runs a small demonstration, which
learns too little for these figures.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine

LEAST_P_AT_1 = 0.85
LEAST_LIFT_AT_5 = 0.5
LEAST_AGREEING_FIRST_HITS = 0.8


def main() -> None:
    """Print each figure beside its promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--data", type=Path, help="Not used: the images are drawn.")
    out = parser.parse_args().out
    summary = out / "summary.json"
    if not summary.exists():
        program = Path(sys.executable).parent / "similarity"
        subprocess.run([program, "demo", "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    figures = json.loads(summary.read_text("utf-8"))
    scores = figures["image_to_report"]
    first = figures["first_hits_agree"]
    normal = scores["baselines"]["normal_abnormal"]["precision_at"]["1"]
    rows = (
        ("image → report P@1", scores["precision_at"]["1"], LEAST_P_AT_1),
        ("its 95 % CI from, above a perfect normal/abnormal", scores["ci95"]["precision_at"]["1"][0], normal),
        ("macro lift@5", scores["lift_at_5"]["macro"], LEAST_LIFT_AT_5),
        ("first hit shares the finding", sum(first) / len(first), LEAST_AGREEING_FIRST_HITS),
    )
    table = Table("", "measured", "at least", title=f"demonstration, {scores['queries']} held-out phantoms")
    for name, value, least in rows:
        table.add_row(name, f"{value:.3f}", f"{least:.3f}")
    console = Console()
    console.print(table)
    console.print(f"{sum(figures['seconds'].values()):.0f} s; {describe_machine()}")
    sys.exit(any(value < least for _, value, least in rows))


if __name__ == "__main__":
    main()
