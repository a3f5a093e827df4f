"""The page as a radiologist uses it: a real browser, the real service in a process of its own, phantoms.

Things are found by what is written on them, as a reader finds them.
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
from tests.end_to_end.reading_room import ask, case, draw, expect_coloured, give
from tests.end_to_end.served import serving
from tests.waiting import eventually
from trainer.runtime.encoder import Encoder

COHORT = "phantom:44@5"

HOSTILE = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>'
"""What nobody should write into a table. Reports lose their markup on being read; other cells keep it."""

ITALIAN = "Non segni di pneumotorace. Versamento pleurico a destra."
"""A report in a language that has no lexicon."""


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
    """A table of a hostile report, an Italian one, and enough that agree for a draft to say something."""
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


def add_filter(page: Page, field: str, value: str) -> None:
    form = page.get_by_role("form", name="Add a filter")
    form.get_by_label("Field").select_option(field)
    form.get_by_label("Value").select_option(value)
    form.get_by_role("button", name="Add").click()


def tab_to(page: Page, name: str, *, back: bool = False) -> None:
    """Press Tab until what has the focus is called so."""
    called = """() => {
        const at = document.activeElement;
        return (at.getAttribute("aria-label") || at.labels?.[0]?.innerText || at.innerText || "").trim();
    }"""
    for _ in range(150):
        if page.evaluate(called) == name:
            return
        page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"no Tab leads to {name!r}")


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

    def changed(before: tuple[float, float], by: float) -> bool:
        now = brightness(mine), brightness(theirs)
        return all(abs(old - new) > by for old, new in zip(before, now, strict=True))

    eventually(lambda: changed(before, 5))  # both films are inverted
    after = brightness(mine), brightness(theirs)
    tools.get_by_role("button", name="Zoom in").click()
    eventually(lambda: changed(after, 0.5))  # both films are magnified


def test_from_a_film_to_cases_to_where_a_finding_is(page: Page, served: Served) -> None:
    give(page, served.film)
    expect(case(page, 1)).to_be_visible()
    page.get_by_role("textbox", name="Where is it?").fill("pleural effusion")
    page.get_by_role("button", name="Show", exact=True).click()
    found = page.get_by_role("list", name="What was looked for")
    expect(found).to_contain_text("pleural effusion")
    expect(found).to_contain_text("how much more the map answers to this phrase than to others")
    caption = page.get_by_text("Map of “pleural effusion”")
    expect(caption).to_be_visible()
    film = page.get_by_role("application", name="Your film")
    page.get_by_label("Opacity of the map").fill("1")
    expect_coloured(film)
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


def test_from_a_film_to_a_draft_to_an_export(page: Page, served: Served) -> None:
    add_filter(page, "source", "manifest")
    give(page, served.film)
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
    expect(page.get_by_text("Nothing is on this list.")).to_be_visible()
    table = exporting.value.path().read_text("utf-8-sig").splitlines()
    assert len(table) == 2
    assert table[1].startswith("manifest:")


def test_the_journeys_need_no_mouse(page: Page) -> None:
    expect(page.get_by_label("Describe what you look for")).to_be_focused()
    page.keyboard.type("pleural effusion")
    page.keyboard.press("Enter")
    tab_to(page, "Compare case 1")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Compare case 2", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Case 2 ·")).to_be_focused()
    tab_to(page, "Ask with this case")
    page.keyboard.press("Enter")
    expect(page.get_by_role("application", name="Your film: case 2")).to_be_visible()
    expect(case(page, 1)).to_be_visible()
    tab_to(page, "Your film: case 2")
    page.keyboard.press("i")
    expect(page.get_by_role("button", name="Invert").first).to_have_attribute("aria-pressed", "true")
    tab_to(page, "Where is it?")
    page.keyboard.type("nodule")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Map of “nodule”")).to_be_visible()
    tab_to(page, "Compare case 1")
    page.keyboard.press("Enter")
    tab_to(page, "Your film: case 2", back=True)
    page.keyboard.press("s")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nearest place in the open case")).to_be_visible()
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


def test_a_film_can_be_dropped_and_pasted(page: Page, served: Served) -> None:
    hand = """([bytes, kind]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "film.png", {type: "image/png"}));
        const event = kind === "drop"
            ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
            : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
        document.body.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        with page.expect_response("**/v1/search") as answered:
            page.evaluate(hand, [list(served.film.read_bytes()), kind])
        assert answered.value.ok
        expect(page.get_by_role("application", name="Your film")).to_be_visible()
        expect(case(page, 1)).to_be_visible()
        page.get_by_role("button", name="Remove film").click()
        expect(page.get_by_role("heading", name="Start with a film or a phrase")).to_be_visible()


def test_examples_and_a_box_are_part_of_the_next_question(page: Page) -> None:
    ask(page, "nodule")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    page.get_by_role("button", name="Ask with this case").click()
    page.get_by_role("button", name="More like case 1", exact=True).click()
    page.get_by_role("button", name="Less like case 2", exact=True).click()
    with page.expect_request("**/v1/search") as asked:
        page.get_by_role("button", name="Search with these").click()
    assert [len(asked.value.post_data_json[field]) for field in ("like", "dislike")] == [1, 1]
    expect(case(page, 1)).to_be_visible()
    page.get_by_role("button", name="Box", exact=True).click()
    film = page.get_by_role("application", name="Your film")
    place = film.bounding_box()
    assert place is not None
    with page.expect_request("**/v1/search") as asked:
        page.mouse.move(place["x"] + place["width"] / 4, place["y"] + place["height"] / 4)
        page.mouse.down()
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.mouse.up()
    assert asked.value.post_data_json["region"] == [64, 64, 128, 128]
    expect(page.get_by_role("button", name="Whole film")).to_be_visible()


def test_earlier_studies_of_the_same_person_stand_apart(page: Page) -> None:
    """Of every seven phantoms the last is a second film of one of the six before it."""
    later = scene(5, 6)
    earlier = next(one for one in map(scene, [5] * 6, range(6)) if one.subject_id == later.subject_id)
    form = page.get_by_role("form", name="Add a filter")
    form.get_by_label("Field").select_option("date")
    form.get_by_label("Value").fill(later.date)
    form.get_by_role("button", name="Add").click()
    ask(page, "chest")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    page.get_by_role("button", name="Ask with this case").click()
    page.get_by_role("button", name=f"Remove the filter date is {later.date}").click()
    own = page.get_by_role("region", name="Earlier studies of this patient")
    expect(own.get_by_role("article", name=f"Own study, {earlier.date}")).to_be_visible()
    expect(case(page, 1)).to_be_visible()
    dates = page.locator(".grid .date").all_inner_texts()
    assert dates
    assert earlier.date not in dates


def test_filters_are_chips_that_hold_for_every_case(page: Page) -> None:
    add_filter(page, "sex", "F")
    ask(page, "nodule")
    chips = page.get_by_role("list", name="Filters in use")
    expect(chips).to_contain_text("sex is F")
    expect(case(page, 1)).to_contain_text("F · ")
    people = page.locator("article").all_inner_texts()
    assert people
    assert not [shown for shown in people if "M · " in shown]
    page.get_by_role("button", name="Remove the filter sex is F").click()
    expect(chips).to_be_hidden()


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


def test_a_case_whose_report_was_not_read_says_so_and_the_answer_counts_it(page: Page) -> None:
    add_filter(page, "source", "manifest")
    ask(page, ITALIAN)
    expect(page.get_by_text("findings not read in 1 report")).to_be_visible()
    unread = page.get_by_role("article").filter(has_text="Report in Italian: findings not read.")
    expect(unread).to_have_count(1)
    expect(unread).not_to_contain_text("No finding is stated.")


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
