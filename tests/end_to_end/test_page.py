"""The page as a radiologist uses it: a real browser, the real service in a process of its own, phantoms.

Controls are found by their visible text, as a reader finds them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from corpus.phantom import scene
from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.service.access import Role, Tokens
from tests.encoders import build_tiny_encoder
from tests.end_to_end.page_actions import case, draw, expect_coloured, search, upload
from tests.end_to_end.served import serving
from tests.waiting import eventually
from trainer.runtime.encoder import Encoder

COHORT = "phantom:44@5"

HOSTILE = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>'
"""Hostile text in a table. The import removes markup from reports; other cells keep it."""

ITALIAN = "Non segni di pneumotorace. Versamento pleurico a destra."
"""A report in a language that has no lexicon."""


@dataclass(frozen=True)
class Served:
    """A service, a token for it, and an image that is not in its index."""

    address: str
    token: str
    image: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    encoder_folder = build_tiny_encoder(folder / "tiny")
    encoder = Encoder.load(encoder_folder, "cpu")
    with Index.open(folder / "home", read_only=False) as index:
        for origin in (COHORT, f"manifest:{own_cases(folder)}"):
            add_source(
                index, open_source(origin), encoder, origin=origin, folder=str(encoder_folder), workers=0
            )
        _, token = Tokens(index.catalog.engine).create(Role.READER, "Dr. Reader")
    image = draw(folder / "query.png", 60)
    with serving(folder / "home", viewer_url="https://viewer.example/?study={study_id}") as address:
        yield Served(address, token, image)


def own_cases(folder: Path) -> Path:
    """Write a table of a hostile report, an Italian one, and enough that agree for a draft."""
    hostile = f"{escape(HOSTILE)} Opacity."
    rows = [{"study_id": "h", "image": "h.png", "report": hostile, "diagnosis": HOSTILE}]
    for number, age in enumerate(range(40, 52)):
        report = (
            f"FINDINGS: No pneumothorax. The heart size is normal. IMPRESSION: Normal chest at {age} years."
        )
        rows.append({"study_id": f"n{number}", "image": f"n{number}.png", "report": report, "diagnosis": ""})
    rows.append({"study_id": "it", "image": "it.png", "report": ITALIAN, "diagnosis": ""})
    for number, row in enumerate(rows):
        draw(folder / row["image"], number)
    pl.DataFrame(rows).write_csv(folder / "own.csv")
    return folder / "own.csv"


@pytest.fixture
def page(signed_in: BrowserContext) -> Iterator[Page]:
    """A tab of that browser; an error in its console fails the test."""
    errors: list[str] = []
    opened = signed_in.new_page()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "console",
        lambda message: (
            errors.append(message.text)
            if message.type == "error" and "Failed to load" not in message.text
            else None
        ),
    )
    opened.goto("/")
    expect(opened.get_by_role("button", name="Search", exact=True)).to_be_visible()
    yield opened
    opened.close()
    assert not errors


def add_filter(page: Page, field: str, value: str) -> None:
    form = page.get_by_role("form", name="Add a filter")
    form.get_by_label("Field").select_option(field)
    form.get_by_label("Value").select_option(value)
    form.get_by_role("button", name="Add").click()


def tab_to(page: Page, name: str, *, back: bool = False) -> None:
    """Press Tab until the focused element has this name."""
    focused_name = """() => {
        const at = document.activeElement;
        return (at.getAttribute("aria-label") || at.labels?.[0]?.innerText || at.innerText || "").trim();
    }"""
    for _ in range(150):
        if page.evaluate(focused_name) == name:
            return
        page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"no Tab leads to {name!r}")


def brightness(canvas: Locator) -> float:
    """Return the mean grey of a canvas."""
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


def test_the_page_always_says_that_it_is_no_medical_device(page: Page) -> None:
    expect(page.get_by_text("Research software, not a medical device")).to_be_visible()
    search(page, "pleural effusion")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    expect(page.get_by_text("Research software, not a medical device")).to_be_in_viewport()


def test_from_a_phrase_to_images_to_one_case_beside_another(page: Page) -> None:
    page.get_by_label("images").check()
    search(page, "large right pleural effusion")
    expect(case(page, 1)).to_be_visible()
    thumbnail = case(page, 1).locator("img")
    expect(thumbnail).to_have_js_property("naturalWidth", 256)
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    expect(page.get_by_role("heading", name="Case 1 ·")).to_be_focused()
    page.get_by_role("button", name="Search with this case").click()
    expect(page.get_by_role("application", name="Your image: case 1")).to_be_visible()
    page.get_by_role("button", name="Compare case 2", exact=True).click()
    mine = page.get_by_role("application", name="Your image: case 1")
    theirs = page.get_by_role("application", name="Image of the open case: case 2")
    expect(theirs).to_be_visible()
    tools = page.get_by_role("group", name="Tools for the image of the open case")
    page.wait_for_function("!document.querySelector('.pane-status:not(:empty)')")
    before = brightness(mine), brightness(theirs)
    tools.get_by_role("button", name="Invert").click()

    def changed(before: tuple[float, float], by: float) -> bool:
        now = brightness(mine), brightness(theirs)
        return all(abs(old - new) > by for old, new in zip(before, now, strict=True))

    eventually(lambda: changed(before, 5))  # both images are inverted
    after = brightness(mine), brightness(theirs)
    tools.get_by_role("button", name="Zoom in").click()
    eventually(lambda: changed(after, 0.5))  # both images are magnified


def test_from_an_image_to_cases_to_a_localization(page: Page, served: Served) -> None:
    upload(page, served.image)
    expect(case(page, 1)).to_be_visible()
    page.get_by_role("textbox", name="Localize a finding").fill("pleural effusion")
    page.get_by_role("button", name="Localize", exact=True).click()
    found = page.get_by_role("list", name="Localizations")
    expect(found).to_contain_text("pleural effusion")
    expect(found).to_contain_text("how much more strongly the map responds to this phrase than to others")
    caption = page.get_by_text("Map of “pleural effusion”")
    expect(caption).to_be_visible()
    image = page.get_by_role("application", name="Your image")
    page.get_by_label("Opacity of the map").fill("1")
    expect_coloured(image)
    with page.expect_download() as saved:
        found.get_by_role("button", name="Save Overlay of pleural effusion").click()
    assert saved.value.suggested_filename == "overlay.png"
    with Image.open(saved.value.path()) as overlay:
        assert overlay.mode == "RGB"
        grey, colour = np.asarray(overlay.convert("L")), np.asarray(overlay)
    assert (colour != grey[..., None]).any()  # the map is on it
    expect(page.get_by_text("Saved as overlay.png.")).to_be_attached()
    found.get_by_label("Map").uncheck()
    expect(caption).to_have_count(0)


def test_from_an_image_to_a_draft_to_an_export(page: Page, served: Served) -> None:
    add_filter(page, "source", "manifest")
    upload(page, served.image)
    case(page, 1).get_by_role("button", name="Add case 1 to list").click()
    expect(page.get_by_text("DRAFT – not read")).to_have_count(0)
    page.get_by_role("heading", name="Draft report").click()
    page.get_by_role("button", name="Write a draft").click()
    expect(page.get_by_text("DRAFT – not read")).to_be_visible()
    evidence = page.get_by_text("no pneumothorax:").first
    expect(evidence).to_be_hidden()
    page.get_by_role("note").filter(has_text="pneumothorax").hover()
    expect(evidence).to_be_visible()
    expect(evidence).to_contain_text("neighbours")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Not assessed")).to_be_visible()
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as text").click()
    assert saving.value.path().read_text("utf-8").startswith("DRAFT – not read")
    page.get_by_role("button", name="Lists (1)").click()
    with page.expect_download() as exporting:
        page.get_by_role("button", name="Export as CSV").click()
    page.get_by_role("button", name="Delete this list").click()
    expect(page.get_by_text("This list is empty.")).to_be_visible()
    table = exporting.value.path().read_text("utf-8-sig").splitlines()
    assert len(table) == 2
    assert table[1].startswith("manifest:")


def test_every_task_works_by_keyboard(page: Page) -> None:
    expect(page.get_by_label("Describe findings")).to_be_focused()
    page.keyboard.type("pleural effusion")
    page.keyboard.press("Enter")
    tab_to(page, "Compare case 1")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Compare case 2", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Case 2 ·")).to_be_focused()
    tab_to(page, "Search with this case")
    page.keyboard.press("Enter")
    expect(page.get_by_role("application", name="Your image: case 2")).to_be_visible()
    expect(case(page, 1)).to_be_visible()
    tab_to(page, "Your image: case 2")
    page.keyboard.press("i")
    expect(page.get_by_role("button", name="Invert").first).to_have_attribute("aria-pressed", "true")
    tab_to(page, "Localize a finding")
    page.keyboard.type("nodule")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Map of “nodule”")).to_be_visible()
    tab_to(page, "Compare case 1")
    page.keyboard.press("Enter")
    tab_to(page, "Your image: case 2", back=True)
    page.keyboard.press("s")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".caption").filter(has_text="Best match in the open case")).to_be_visible()
    tab_to(page, "Close")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Compare case 1", exact=True)).to_be_focused()
    tab_to(page, "Field")
    page.keyboard.type("source")
    tab_to(page, "Value")
    page.keyboard.type("manifest")
    tab_to(page, "Add")
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Filters in use")).to_contain_text("source is manifest")
    tab_to(page, "Add case 1 to list")
    page.keyboard.press("Enter")
    tab_to(page, "Draft report")
    page.keyboard.press("Enter")
    tab_to(page, "Write a draft")
    page.keyboard.press("Enter")
    expect(page.get_by_text("DRAFT – not read")).to_be_visible()
    tab_to(page, "No pneumothorax.")
    expect(page.get_by_text("no pneumothorax:").first).to_be_visible()
    tab_to(page, "Lists (1)", back=True)
    page.keyboard.press("Enter")
    tab_to(page, "Export as CSV")
    with page.expect_download() as exporting:
        page.keyboard.press("Enter")
    assert exporting.value.suggested_filename == "My list.csv"


def test_an_image_can_be_dropped_and_pasted(page: Page, served: Served) -> None:
    provide = """([bytes, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "image.png", {type: "image/png"}));
        const event = kind === "drop"
            ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
            : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
        document.body.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        with page.expect_response("**/v1/search") as answered:
            page.evaluate(provide, [list(served.image.read_bytes()), kind])
        assert answered.value.ok
        expect(page.get_by_role("application", name="Your image")).to_be_visible()
        expect(case(page, 1)).to_be_visible()
        page.get_by_role("button", name="Remove image").click()
        expect(page.get_by_role("heading", name="Start with an image or a phrase")).to_be_visible()


def test_feedback_and_a_region_are_part_of_the_next_query(page: Page) -> None:
    search(page, "nodule")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    page.get_by_role("button", name="Search with this case").click()
    page.get_by_role("button", name="Relevant: case 1", exact=True).click()
    page.get_by_role("button", name="Irrelevant: case 2", exact=True).click()
    with page.expect_request("**/v1/search") as request:
        page.get_by_role("button", name="Search with these").click()
    assert [len(request.value.post_data_json[field]) for field in ("like", "dislike")] == [1, 1]
    expect(case(page, 1)).to_be_visible()
    page.get_by_role("button", name="Box", exact=True).click()
    image = page.get_by_role("application", name="Your image")
    box = image.bounding_box()
    assert box is not None
    with page.expect_request("**/v1/search") as request:
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.up()
    assert request.value.post_data_json["region"] == [64, 64, 128, 128]
    expect(page.get_by_role("button", name="Whole image")).to_be_visible()


def test_earlier_studies_of_the_same_patient_are_shown_apart(page: Page) -> None:
    """Of every seven phantoms the last is a second study of the subject of one of the six before it."""
    later = scene(5, 6)
    earlier = next(one for one in map(scene, [5] * 6, range(6)) if one.subject_id == later.subject_id)
    form = page.get_by_role("form", name="Add a filter")
    form.get_by_label("Field").select_option("date")
    form.get_by_label("Value").fill(later.date)
    form.get_by_role("button", name="Add").click()
    search(page, "chest")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    page.get_by_role("button", name="Search with this case").click()
    page.get_by_role("button", name=f"Remove the filter date is {later.date}").click()
    studies = page.get_by_role("region", name="Earlier studies of this patient")
    expect(studies.get_by_role("article", name=f"Earlier study, {earlier.date}")).to_be_visible()
    expect(case(page, 1)).to_be_visible()
    dates = page.locator(".grid .date").all_inner_texts()
    assert dates
    assert earlier.date not in dates


def test_filters_are_chips_that_every_case_satisfies(page: Page) -> None:
    add_filter(page, "sex", "F")
    search(page, "nodule")
    chips = page.get_by_role("list", name="Filters in use")
    expect(chips).to_contain_text("sex is F")
    expect(case(page, 1)).to_contain_text("F · ")
    cards = page.locator("article").all_inner_texts()
    assert cards
    assert not [shown for shown in cards if "M · " in shown]
    page.get_by_role("button", name="Remove the filter sex is F").click()
    expect(chips).to_be_hidden()


def test_report_text_with_html_in_it_is_text(page: Page) -> None:
    add_filter(page, "source", "manifest")
    search(page, "opacity")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    side = page.get_by_role("complementary")
    expect(side).to_contain_text("Opacity.")
    expect(side).to_contain_text(HOSTILE)
    assert page.evaluate("window.ran") is None
    viewer = page.get_by_role("link", name="Open in viewer")
    expect(viewer).to_have_attribute("href", "https://viewer.example/?study=manifest%3Ah")


def test_a_case_without_extracted_findings_says_so_and_the_answer_counts_it(page: Page) -> None:
    add_filter(page, "source", "manifest")
    search(page, ITALIAN)
    expect(page.get_by_text("findings not extracted from 1 report")).to_be_visible()
    unread = page.get_by_role("article").filter(has_text="Report in Italian: findings not extracted.")
    expect(unread).to_have_count(1)
    expect(unread).not_to_contain_text("No finding is stated.")


def test_an_empty_answer_offers_to_remove_the_filters(page: Page) -> None:
    form = page.get_by_role("form", name="Add a filter")
    form.get_by_label("Field").select_option("age")
    form.get_by_label("Comparison").select_option(">")
    form.get_by_label("Value").fill("150")
    form.get_by_role("button", name="Add").click()
    search(page, "nodule")
    expect(page.get_by_role("heading", name="No case was found")).to_be_visible()
    page.get_by_role("button", name="Remove all filters").click()
    expect(case(page, 1)).to_be_visible()


def test_a_file_that_is_no_radiograph_is_refused_in_a_sentence(page: Page, tmp_path: Path) -> None:
    wrong = tmp_path / "letter.png"
    wrong.write_bytes(b"Dear colleague, ...")
    with page.expect_response("**/v1/search") as answered:
        upload(page, wrong)
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
    search(page, "nodule")
    expect(case(page, 1)).to_be_visible()
    page.wait_for_load_state("networkidle")
    context.clear_cookies()
    search(page, "effusion")
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
    search(page, "pleural effusion")
    expect(case(page, 1)).to_be_visible()
    assert not serious()
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    expect(page.get_by_role("heading", name="Report")).to_be_visible()
    assert not serious()
    page.get_by_role("button", name="Keyboard").click()
    assert not serious()
