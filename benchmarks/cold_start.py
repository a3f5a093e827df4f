"""CPU seconds and peak memory of commands in fresh processes, with each runtime of the encoder.

    python -m benchmarks.cold_start --encoder runs/real

A home of phantoms is indexed once. Each command runs once unmeasured, so that Python's bytecode and the files
are there as on an installed system, and then several times; the median is shown. Peak memory includes the
files that the vector store maps.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine

_MEASURED = """
import json, resource, subprocess, sys
ran = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([ran.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
_COMMAND = (sys.executable, "-c", "from similarity.cli.main import main; main()")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Not used: the images are phantoms.")
@click.option("--encoder", "name", default="runs/real", show_default=True, help="Encoder folder or name.")
@click.option("--studies", default=100, show_default=True, help="Phantoms in the index.")
@click.option("--runs", default=5, show_default=True, help="Measured runs of each command.")
def main(data: Path | None, name: str, studies: int, runs: int) -> None:
    """Measure and print."""
    table = Table(title=f"cold commands, {studies} studies, median of {runs}")
    for column in ("command", "runtime", "CPU s", "peak MB"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        home, image = Path(folder) / "home", Path(folder) / "image.png"
        _draw(image)
        environment = {
            **os.environ,
            "SIMILARITY_HOME": str(home),
            "PYTHONPYCACHEPREFIX": f"{folder}/bytecode",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        add = (*_COMMAND, "index", "add", f"phantom:{studies}@1", "--encoder", name)
        subprocess.run(add, env=environment, check=True, stdout=subprocess.DEVNULL)
        commands = {
            "--help": ("--help",),
            "search --text": ("search", "--text", "small right pleural effusion", "--json"),
            "search --image": ("search", "--image", str(image), "--json"),
        }
        for title, words in commands.items():
            for runtime in ("torch", "onnx"):
                chosen = {**environment, "SIMILARITY_RUNTIME": runtime}
                measured = [_measure(words, chosen) for _ in range(runs + 1)][1:]
                seconds, memory = (statistics.median(column) for column in zip(*measured, strict=True))
                table.add_row(title, runtime, f"{seconds:.2f}", f"{memory:.0f}")
    Console().print(table)
    Console().print(describe_machine())


def _draw(path: Path) -> None:
    from PIL import Image

    from corpus.phantom import render, scene

    Image.fromarray(np.rint(render(scene(1, 0), 512) * 255).astype(np.uint8)).save(path)


def _measure(words: tuple[str, ...], environment: dict[str, str]) -> tuple[float, float]:
    """CPU seconds and peak resident megabytes of one command, measured by a parent of its own."""
    import json

    measuring = [sys.executable, "-c", _MEASURED, *_COMMAND, *words]
    ran = subprocess.run(measuring, env=environment, check=True, capture_output=True, text=True)
    code, seconds, memory = json.loads(ran.stdout)
    if code:
        raise SystemExit(f"{' '.join(words)} failed: {ran.stderr}")
    return seconds, memory


if __name__ == "__main__":
    main()
