"""Actions of a reader on the page; controls are found by their visible text."""

import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

from corpus.phantom import render, scene
from tests.waiting import DEADLINE_SECONDS

expect.set_options(timeout=1000 * DEADLINE_SECONDS)


def chromium() -> str:
    """Return the path of the browser; without one the tests of the page fail."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    assert found is not None, "no chromium here: the page's tests need one (sh .ci/install-chromium)"
    return found


def search(page: Page, phrase: str) -> None:
    page.get_by_label("Describe findings").fill(phrase)
    page.get_by_role("button", name="Search", exact=True).click()


def upload(page: Page, image: Path) -> None:
    page.get_by_label("Choose a file").set_input_files(image)


def case(page: Page, rank: int) -> Locator:
    return page.get_by_role("article", name=f"Case {rank}", exact=True)


def expect_coloured(canvas: Locator) -> None:
    """Wait until a canvas shows a colour."""
    canvas.page.wait_for_function(
        """canvas => {
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.some((value, at) => at % 4 === 0 && Math.abs(value - data[at + 2]) > 40);
        }""",
        arg=canvas.element_handle(),
    )


def draw(file: Path, number: int) -> Path:
    """Write a phantom as a PNG file."""
    Image.fromarray((render(scene(6, number)) * 255).astype("uint8")).save(file)
    return file
