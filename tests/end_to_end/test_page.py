"""The page as a radiologist uses it: a real browser, the real service in a process of its own, phantoms.

Things are found by what is written on them, as a reader finds them.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from corpus.phantom import render, scene
from corpus.sources import open_source
from indexer.index import Index
from indexer.pipeline import add_source
from retrieval.service.access import Role, Tokens
from tests.encoders import build_tiny_encoder
from tests.end_to_end.served import serving
from trainer.encoder import Encoder

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page's tests need one")

COHORT = "phantom:44@5"
expect.set_options(timeout=60_000)

HOSTILE = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>'
"""What nobody should write into a table. Reports lose their markup on being read; other cells keep it."""


@dataclass(frozen=True)
class Served:
    """A service, a token for it, and a film that it never saw."""

    address: str
    token: str
    film: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    encoder_folder = build_tiny_encoder(folder / "tiny")
    encoder = Encoder.load(encoder_folder, "cpu")
    with Index.open(folder / "home", read_only=False) as index:
        for origin in (COHORT, f"manifest:{own_cases(folder)}"):
            add_source(
                index, open_source(origin), encoder, origin=origin, folder=str(encoder_folder), workers=1
            )
        _, token = Tokens(index.catalog.engine).create(Role.READER, "Dr. Reader")
    film = draw(folder / "query.png", 60)
    with serving(folder / "home", viewer_url="https://viewer.example/?study={study_id}") as address:
        yield Served(address, token, film)


def own_cases(folder: Path) -> Path:
    """A table of a hostile report, and of enough that agree with each other for a draft to say something."""
    hostile = f"{escape(HOSTILE)} Opacity."
    rows = [{"study_id": "h", "image": "h.png", "report": hostile, "diagnosis": HOSTILE}]
    for number, age in enumerate(range(40, 52)):
        report = (
            f"FINDINGS: No pneumothorax. The heart size is normal. IMPRESSION: Normal chest at {age} years."
        )
        rows.append({"study_id": f"n{number}", "image": f"n{number}.png", "report": report, "diagnosis": ""})
    for number, row in enumerate(rows):
        draw(folder / row["image"], number)
    pl.DataFrame(rows).write_csv(folder / "own.csv")
    return folder / "own.csv"


def draw(file: Path, number: int) -> Path:
    Image.fromarray((render(scene(6, number)) * 255).astype("uint8")).save(file)
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def signed_in(served: Served, browser: Browser) -> Iterator[BrowserContext]:
    """A browser that was signed in by hand."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, base_url=served.address)
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Access token").fill(served.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Dr. Reader")).to_be_visible()
    page.close()
    yield context
    context.close()


@pytest.fixture
def page(signed_in: BrowserContext) -> Iterator[Page]:
    """A tab of that browser; whatever its console complains of fails the test."""
    complaints: list[str] = []
    opened = signed_in.new_page()
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda told: (
            complaints.append(told.text)
            if told.type == "error" and "Failed to load" not in told.text
            else None
        ),
    )
    opened.goto("/")
    expect(opened.get_by_role("button", name="Search", exact=True)).to_be_visible()
    yield opened
    opened.close()
    assert not complaints


def ask(page: Page, phrase: str) -> None:
    page.get_by_label("Describe what you look for").fill(phrase)
    page.get_by_role("button", name="Search", exact=True).click()


def give(page: Page, film: Path) -> None:
    page.get_by_label("Choose a file").set_input_files(film)


def case(page: Page, rank: int) -> Locator:
    return page.get_by_role("article", name=f"Case {rank}", exact=True)


def add_filter(page: Page, field: str, value: str) -> None:
    form = page.get_by_role("form", name="Add a filter")
    form.get_by_label("Field").select_option(field)
    form.get_by_label("Value").select_option(value)
    form.get_by_role("button", name="Add").click()


def brightness(canvas: Locator) -> float:
    """Mean grey of what a canvas shows."""
    return float(
        canvas.evaluate(
            """canvas => {
                const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                let sum = 0;
                for (let at = 0; at < data.length; at += 4) sum += data[at];
                return sum / (data.length / 4);
            }"""
        )
    )


def test_the_page_always_says_what_it_is_not(page: Page) -> None:
    expect(page.get_by_text("Research software, not a medical device")).to_be_visible()
    ask(page, "pleural effusion")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    expect(page.get_by_text("Research software, not a medical device")).to_be_in_viewport()


def test_from_a_phrase_to_films_to_one_case_beside_another(page: Page) -> None:
    page.get_by_label("images").check()
    ask(page, "large right pleural effusion")
    expect(case(page, 1)).to_be_visible()
    picture = case(page, 1).locator("img")
    expect(picture).to_have_js_property("naturalWidth", 256)
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    expect(page.get_by_role("heading", name="Case 1 ·")).to_be_focused()
    page.get_by_role("button", name="Ask with this case").click()
    expect(page.get_by_role("application", name="Your film: case 1")).to_be_visible()
    page.get_by_role("button", name="Compare case 2", exact=True).click()
    mine = page.get_by_role("application", name="Your film: case 1")
    theirs = page.get_by_role("application", name="Film of the open case: case 2")
    expect(theirs).to_be_visible()
    tools = page.get_by_role("group", name="Tools for the film of the open case")
    page.wait_for_function("!document.querySelector('.pane-status:not(:empty)')")
    before = brightness(mine), brightness(theirs)
    tools.get_by_role("button", name="Invert").click()
    page.wait_for_timeout(200)
    after = brightness(mine), brightness(theirs)
    assert all(abs(old - new) > 5 for old, new in zip(before, after, strict=True)), "both films are inverted"
    tools.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(200)
    zoomed = brightness(mine), brightness(theirs)
    assert all(abs(old - new) > 0.5 for old, new in zip(after, zoomed, strict=True)), (
        "both films are magnified"
    )


def test_filters_are_chips_that_hold_for_every_case(page: Page) -> None:
    add_filter(page, "sex", "F")
    ask(page, "nodule")
    expect(page.get_by_text("sex is F")).to_be_visible()
    expect(case(page, 1)).to_contain_text("F · ")
    people = page.locator("article").all_inner_texts()
    assert people
    assert not [shown for shown in people if "M · " in shown]
    page.get_by_role("button", name="Remove the filter sex is F").click()
    expect(page.get_by_text("sex is F")).to_have_count(0)


def test_report_text_with_html_in_it_is_text(page: Page) -> None:
    add_filter(page, "source", "manifest")
    ask(page, "opacity")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    side = page.get_by_role("complementary")
    expect(side).to_contain_text("Opacity.")
    expect(side).to_contain_text(HOSTILE)
    assert page.evaluate("window.ran") is None
    viewer = page.get_by_role("link", name="Open in viewer")
    expect(viewer).to_have_attribute("href", "https://viewer.example/?study=manifest%3Ah")


def test_no_case_is_said_in_a_sentence_and_so_is_a_question_that_cannot_be_read(page: Page) -> None:
    form = page.get_by_role("form", name="Add a filter")
    form.get_by_label("Field").select_option("age")
    form.get_by_label("Comparison").select_option(">")
    form.get_by_label("Value").fill("150")
    form.get_by_role("button", name="Add").click()
    ask(page, "nodule")
    expect(page.get_by_role("heading", name="No case was found")).to_be_visible()
    page.get_by_role("button", name="Remove all filters").click()
    expect(case(page, 1)).to_be_visible()


def test_a_file_that_is_no_film_is_refused_in_a_sentence(page: Page, tmp_path: Path) -> None:
    wrong = tmp_path / "letter.png"
    wrong.write_bytes(b"Dear colleague, ...")
    with page.expect_response("**/v1/search") as answered:
        give(page, wrong)
    assert answered.value.status == 422
    failed = page.get_by_role("alert").filter(has_text="This search was not answered")
    expect(failed).to_be_visible()
    expect(failed).to_contain_text(answered.value.json()["detail"])


def test_a_session_that_ended_elsewhere_leaves_nothing_on_the_screen(
    served: Served, browser: Browser
) -> None:
    context = browser.new_context(base_url=served.address)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Access token").fill("sim_no_such_token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("This token does not work")).to_be_visible()
    page.get_by_label("Access token").fill(served.token)
    page.get_by_role("button", name="Sign in").click()
    ask(page, "nodule")
    expect(case(page, 1)).to_be_visible()
    page.wait_for_load_state("networkidle")
    context.clear_cookies()
    ask(page, "effusion")
    expect(page.get_by_label("Access token")).to_be_visible()
    expect(case(page, 1)).to_be_hidden()
    context.close()


def test_axe_finds_nothing_serious(page: Page) -> None:
    def serious() -> list[str]:
        found = Axe().run(page).response["violations"]
        return [
            f"{each['id']}: {node['html'][:200]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    assert not serious()
    ask(page, "pleural effusion")
    expect(case(page, 1)).to_be_visible()
    assert not serious()
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    expect(page.get_by_role("heading", name="Report")).to_be_visible()
    assert not serious()
    page.get_by_role("button", name="Keyboard").click()
    assert not serious()
