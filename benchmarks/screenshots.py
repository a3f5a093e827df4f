"""The README's screenshots of the page: `python -m benchmarks.screenshots --encoder runs/phantom`.

Phantoms are indexed, calibrated and served; a browser then searches with an image that the encoder was not
trained on. Without an encoder in the given folder one is trained there by the packaged recipe.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

from corpus.phantom import Scene, render, scene
from corpus.phantom.lesions import EFFUSION

COHORT = "phantom:300@7"
CALIBRATION = "phantom:100@10"
UNSEEN = 8
"""The seed of the query images."""
SIZE: ViewportSize = {"width": 1280, "height": 800}
_PATIENCE_SECONDS = 300.0
_MOST_BYTES = 400_000
_LARGE_MM = 90.0  # of fluid above the costophrenic angle


def main() -> None:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, default=Path("runs/phantom"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    if not options.encoder.exists():
        _train(options.encoder)
    with tempfile.TemporaryDirectory() as folder:
        radiograph = Path(folder) / "radiograph.png"
        grey = np.rint(render(_large_effusion(), 1024) * 255).astype(np.uint8)
        Image.fromarray(grey).save(radiograph)
        with _service(Path(folder) / "home", options.encoder) as (address, token), _browser() as page:
            page.goto(address)
            page.get_by_label("Access token").fill(token)
            page.get_by_role("button", name="Sign in").click()
            page.get_by_role("heading", name="Start with an image or a phrase").wait_for()
            page.get_by_label("Choose a file").set_input_files(radiograph)
            for name, show in (("search", _search), ("compare", _compare), ("draft", _draft)):
                show(page)
                _settle(page)
                file = options.out / f"page-{name}.png"
                page.screenshot(path=file)
                _shrink(file)
                print(f"{file}: {file.stat().st_size >> 10} KB")


def _search(page: Page) -> None:
    page.get_by_label("Describe findings").fill("right pleural effusion")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("article", name="Case 1", exact=True).wait_for()


def _compare(page: Page) -> None:
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    page.get_by_role("textbox", name="Localize a finding").fill("right pleural effusion")
    page.get_by_role("button", name="Localize", exact=True).click()
    page.get_by_text("Map of “right pleural effusion”").wait_for()


def _draft(page: Page) -> None:
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="Draft report").click()
    page.get_by_role("button", name="Write a draft").click()
    page.locator(".sentence").first.hover()


def _settle(page: Page) -> None:
    """Wait until every image is there."""
    page.wait_for_function(
        "[...document.images].every(image => image.complete || image.loading === 'lazy')"
        " && !document.querySelector('.pane-status:not(:empty)')"
    )
    page.wait_for_timeout(1_500)


def _large_effusion() -> Scene:
    """Return the first image outside the training with one finding only: a large effusion on the right."""
    for number in range(10_000):
        drawn = scene(UNSEEN, number)
        if len(drawn.lesions) == 1:
            (lesion,) = drawn.lesions
            if (lesion.finding, lesion.side, lesion.faint) == (
                EFFUSION,
                "right",
                False,
            ) and lesion.size > _LARGE_MM:
                return drawn
    raise AssertionError("no phantom shows a large effusion on the right and nothing else")


@contextmanager
def _service(home: Path, encoder: Path) -> Iterator[tuple[str, str]]:
    """Index, calibrate and serve; yield the page's address and a token."""
    environment = {**os.environ, "SIMILARITY_HOME": str(home)}
    program = Path(sys.executable).parent / "similarity"

    def run(*words: str) -> str:
        return subprocess.run(
            [program, *words], env=environment, check=True, capture_output=True, text=True
        ).stdout

    run("index", "add", COHORT, "--encoder", str(encoder.absolute()))
    run("index", "calibrate")
    words = ("--encoder", str(encoder.absolute()), "--method", "patches")
    run("localize", "--calibrate", CALIBRATION, *words)
    token = run("token", "create", "--role", "reader", "--name", "Dr. Reader").strip()
    with subprocess.Popen(
        [program, "serve", "--port", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            while httpx.get(f"{address}readyz", timeout=_PATIENCE_SECONDS).status_code != 200:
                time.sleep(0.5)
            yield address, token
        finally:
            process.terminate()


@contextmanager
def _browser() -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = opened.new_page(viewport=SIZE)
        page.set_default_timeout(1_000 * _PATIENCE_SECONDS)
        yield page
        opened.close()


def _shrink(file: Path) -> None:
    """Write a screenshot again with 256 colours, so that its file stays small."""
    with Image.open(file) as taken:
        reduced = taken.convert("RGB")
    reduced.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    assert file.stat().st_size < _MOST_BYTES


def _train(out: Path) -> None:
    from trainer import recipes
    from trainer.train.config_file import read_config
    from trainer.train.loop import train

    with as_file(files(recipes) / "phantom.toml") as recipe:
        config = read_config(recipe, {"corpus": ("phantom:700@1",)})
    train(config, out)


if __name__ == "__main__":
    main()
