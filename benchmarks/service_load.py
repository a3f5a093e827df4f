"""Searches under load: 16 clients, as fast as they are answered, then 20 a second; with and without a
localization and a draft beside.

    python -m benchmarks.service_load [--encoder DIR] [--studies N] [--seconds S] [--home DIR] [--workers N]

The cohort is drawn and indexed by the given encoder (`make encoder` writes `runs/real`); with `--home` the
index is made there once and reused by the next run. Every search has another text, so that no answer is
cached. Times are the client's, from the moment a request was due, so that queueing counts. `--workers`: a
value of `SIMILARITY_SEARCH_WORKERS`; several are measured one after the other on the same home.
"""

import argparse
import http.client
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine

CLIENTS = 16
RATE = 20.0

_SIDES = ("left", "right", "bilateral")
_SEVERITIES = ("small", "moderate", "large", "mild", "severe")
_FINDINGS = ("effusion", "consolidation", "nodule", "cardiomegaly", "pneumothorax", "edema", "atelectasis")
_LOCATIONS = ("upper lobe", "lower lobe", "middle zone", "lung base", "hilum", "apex", "costophrenic angle")


def texts(seed: int) -> Iterator[str]:
    """Yield distinct phrases without end."""
    rng = random.Random(seed)
    every = [" ".join(p) for p in itertools.product(_SEVERITIES, _SIDES, _FINDINGS, ("in the",), _LOCATIONS)]
    rng.shuffle(every)
    return itertools.chain(every, (f"{rng.choice(every)}, {number} mm" for number in itertools.count(3)))


class Load:
    """What the clients share: the queries, when each is due, and the times."""

    def __init__(self, port: int, token: str, seconds: float, rate: float | None) -> None:
        """Load a service; `rate`: searches a second, None for as many as are answered."""
        self.port, self.token, self.seconds, self.rate = port, token, seconds, rate
        self.queries = texts(1)
        self.began = time.perf_counter() + 0.5
        self.number = itertools.count()
        self.mutex = threading.Lock()
        self.times: list[float] = []
        self.failed = 0

    def client(self) -> None:
        """Send the search that is due next, on one connection, until the time is over."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while True:
            with self.mutex:
                number, text = next(self.number), next(self.queries)
            due = time.perf_counter() if self.rate is None else self.began + number / self.rate
            if due > self.began + self.seconds:
                return
            time.sleep(max(0.0, due - time.perf_counter()))
            ok = self.send(line, "/v1/search", {"text": text, "for": "cases", "k": 10})
            with self.mutex:
                self.times.append(time.perf_counter() - due)
                self.failed += not ok

    def background(self, path: str, body: dict[str, object], counts: dict[str, int]) -> None:
        """Send the same request again and again."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        while time.perf_counter() < self.began + self.seconds:
            counts[path] = counts.get(path, 0) + self.send(line, path, body)

    def send(self, line: http.client.HTTPConnection, path: str, body: dict[str, object]) -> bool:
        """Send one request; return whether the status is 200."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        line.request("POST", path, json.dumps(body), headers)
        answer = line.getresponse()
        answer.read()
        return answer.status == 200


def main() -> None:
    """Index a cohort, serve it, load it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="runs/real")
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--home", type=Path, help="Home of the index; made if absent.")
    parser.add_argument("--workers", type=int, action="append", help="default: 0")
    parser.add_argument("--data", help="Not used: the cohort is drawn.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = options.home or Path(folder) / "home"
        if not (home / "catalog.sqlite").exists():
            _command(home, "index", "add", f"phantom:{options.studies}@1", "--encoder", options.encoder)
        token = _command(home, "token", "create", "--role", "admin", "--name", "benchmark").strip()
        print("| workers | beside the searches | searches a second | failed | p50 ms | p95 ms | p99 ms | "
              "localized | drafted |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|")
        for workers in options.workers or [0]:
            with _served(home, workers) as port:
                _measure(port, token, options.seconds, str(workers))
    print(f"\n{options.studies:,} studies, {CLIENTS} clients, {options.seconds:g} s each")
    print(f"\n{describe_machine()}")


@contextmanager
def _served(home: Path, workers: int) -> Iterator[int]:
    """Serve a home; yields the port."""
    service = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0"],
        env={**_environment(home), "SIMILARITY_SEARCH_WORKERS": str(workers)},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert service.stdout is not None
        yield int(service.stdout.readline().rsplit(":", 1)[1].strip(" /\n"))
    finally:
        service.terminate()
        service.wait()


def _measure(port: int, token: str, seconds: float, workers: str) -> None:
    warm = Load(port, token, 0, None)
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    for _ in range(2 * CLIENTS):  # every process that searches has loaded its encoder
        if not warm.send(line, "/v1/search", {"text": "warm up", "k": 1}):
            raise SystemExit("The service does not answer a first search: `similarity search` says why.")
    line.request(
        "POST", "/v1/search", json.dumps({"text": "normal heart", "for": "images", "k": 1}),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )  # fmt: skip
    image = json.loads(line.getresponse().read())["hits"][0]["image"]
    for beside, rate in itertools.product((False, True), (None, RATE)):
        load = Load(port, token, seconds, rate)
        counts: dict[str, int] = {}
        threads = [threading.Thread(target=load.client) for _ in range(CLIENTS)]
        if beside:
            phrases = {"image": image, "phrases": ["right pleural effusion"]}
            threads.append(threading.Thread(target=load.background, args=("/v1/localize", phrases, counts)))
            drafted = {"image": image}
            threads.append(threading.Thread(target=load.background, args=("/v1/draft", drafted, counts)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        p50, p95, p99 = np.percentile(np.array(load.times) * 1000, (50, 95, 99))
        print(
            f"| {workers} | {'one localize, one draft' if beside else 'nothing'} "
            f"| {len(load.times) / seconds:.1f}{'' if rate is None else ' asked'} | {load.failed} "
            f"| {p50:.0f} | {p95:.0f} | {p99:.0f} "
            f"| {counts.get('/v1/localize', 0)} | {counts.get('/v1/draft', 0)} |",
            flush=True,
        )


PROGRAM = (sys.executable, "-c", "import sys; from similarity.cli.main import main; main(sys.argv[1:])")


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "SIMILARITY_HOME": str(home), "SIMILARITY_REQUESTS_PER_MINUTE": "100000"}


def _command(home: Path, *words: str) -> str:
    done = subprocess.run(
        [*PROGRAM, *words], env=_environment(home), stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
