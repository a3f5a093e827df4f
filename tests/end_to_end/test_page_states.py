"""The page when things are not as they should be: nothing alike, a case that was removed, an index that was
switched, two tabs, a paste beyond all measure, a database that is gone. Real service, real browser, catalog
on a real Postgres."""

import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from corpus.images.reader import read_image
from corpus.settings import settings
from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_study
from indexer.versions import HeldStudies, activate
from retrieval.reliability.conformal import Guarantee
from retrieval.reliability.ood import REFUSAL, Gate
from retrieval.service.access import Role, Tokens
from tests.encoders import build_tiny_encoder
from tests.end_to_end.reading_room import ask, case, draw, expect_coloured, give
from tests.end_to_end.served import serving
from tests.indexer.postgres import fresh_database, postgres_server
from tests.retrieval.service.test_bad_input import huge_png
from tests.waiting import DEADLINE_SECONDS
from trainer.runtime.encoder import Encoder

COHORT = "phantom:30@5"
SHOTS = os.environ.get("PAGE_SHOTS")


@dataclass(frozen=True)
class Served:
    """A service, a token, its home, its database, and films that it holds and that it never saw."""

    address: str
    token: str
    home: Path
    database: str
    held: Path
    unlike: Path
    second: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("states")
    first, second = build_tiny_encoder(folder / "one"), build_tiny_encoder(folder / "two", seed=1)
    with ExitStack() as held:
        database = held.enter_context(fresh_database(held.enter_context(postgres_server())))
        environment = held.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("SIMILARITY_DATABASE_URL", database)
        settings.cache_clear()
        held.callback(settings.cache_clear)
        with Index.open(folder / "home", read_only=False) as index:
            encoder = Encoder.load(first, "cpu")
            add_source(index, open_source(COHORT), encoder, origin=COHORT, folder=str(first), workers=1)
            index.calibrations.keep(encoder.fingerprint, unwelcoming(encoder))
            _, token = Tokens(index.catalog.engine).create(Role.READER, "Dr. Reader")
        shown = (read_image("phantom://5/3") * 65535).round().astype(np.uint16)
        Image.fromarray(shown).save(folder / "held.png")
        unlike = draw(folder / "unlike.png", 60)
        address = held.enter_context(serving(folder / "home", database_url=database))
        yield Served(address, token, folder / "home", database, folder / "held.png", unlike, second)


def unwelcoming(encoder: Encoder) -> dict[str, dict[str, object]]:
    """What an index learns of itself when it can promise nothing, and when no other film is of its kind."""
    (seen,) = encoder.encode_trunk([read_image("phantom://5/3")])
    gate = Gate(np.zeros(len(seen)), np.zeros((1, len(seen))), np.ones(1), 1.0, -1.0, 200)
    nothing = {k: {"rest": None} for k in range(1, 51)}
    return {"gate": gate.as_json(), "guarantee": Guarantee({"cases": nothing}, 200).as_json()}


@pytest.fixture
def page(signed_in: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    opened = tab(signed_in)
    yield opened
    if SHOTS:
        opened.screenshot(path=Path(SHOTS) / f"{request.node.name}.png")
    opened.close()


def tab(context: BrowserContext) -> Page:
    opened = context.new_page()
    opened.goto("/")
    expect(opened.get_by_role("button", name="Search", exact=True)).to_be_visible()
    return opened


def test_where_no_hit_can_be_promised_that_is_said_before_the_cases(page: Page, served: Served) -> None:
    give(page, served.held)
    told = page.get_by_role("note").filter(has_text="Nothing like this here: not one of these 12 ")
    expect(told).to_be_visible()
    expect(case(page, 1)).to_be_visible()
    below, above = case(page, 1).bounding_box(), told.bounding_box()
    assert below is not None
    assert above is not None
    assert above["y"] < below["y"]


def test_a_film_that_is_of_no_kind_held_here_finds_nothing_and_says_why(page: Page, served: Served) -> None:
    give(page, served.unlike)
    expect(page.get_by_role("heading", name="No cases are shown")).to_be_visible()
    expect(page.get_by_text(REFUSAL)).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(0)
    page.get_by_role("heading", name="Draft report").click()
    page.get_by_role("button", name="Write a draft").click()
    draft = page.get_by_role("complementary")
    expect(draft.get_by_role("note").filter(has_text=f"No draft: {REFUSAL}")).to_be_visible()


def test_what_is_alike_in_two_films_is_marked_in_both(page: Page) -> None:
    ask(page, "pleural effusion")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    page.get_by_role("button", name="Ask with this case").click()
    mine = page.get_by_role("application", name="Your film: case 1")
    expect(mine).to_be_visible()
    page.get_by_role("button", name="Compare case 2", exact=True).click()
    theirs = page.get_by_role("application", name="Film of the open case: case 2")
    page.get_by_role("button", name="What is alike?").click()
    expect(page.get_by_text("What is most alike in the open case")).to_be_visible()
    expect(page.get_by_text("What is most alike to your film; number: strength")).to_be_visible()
    expect_coloured(mine)
    expect_coloured(theirs)
    page.get_by_role("button", name="Spot", exact=True).click()
    mine.click(position={"x": 120, "y": 120})
    expect(page.get_by_text("Nearest place in the open case")).to_be_visible()
    expect(page.get_by_text("Nearest place to your film; number: cosine")).to_be_visible()
    expect_coloured(mine)
    expect_coloured(theirs)


def test_two_tabs_keep_one_list_and_each_its_own_question(page: Page, signed_in: BrowserContext) -> None:
    other = tab(signed_in)
    ask(page, "nodule")
    ask(other, "cardiomegaly")
    case(page, 1).get_by_role("button", name="Add case 1 to list").click()
    expect(other.get_by_role("button", name="Lists (1)")).to_be_visible()
    case(other, 2).get_by_role("button", name="Add case 2 to list").click()
    for one in (page, other):
        expect(one.get_by_role("button", name="Lists (2)")).to_be_visible()
    expect(page.get_by_label("Describe what you look for")).to_have_value("nodule")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_label("Access token")).to_be_visible()
    ask(page, "edema")
    expect(page.get_by_label("Access token")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(0)


@pytest.fixture
def again(served: Served, signed_in: BrowserContext) -> None:
    """Sign the browser in anew, whoever signed out."""
    answer = signed_in.request.post(
        "/v1/session", data={"token": served.token}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.ok


@pytest.mark.usefixtures("again")
def test_a_study_that_was_removed_is_told_in_an_open_tab(page: Page, served: Served) -> None:
    with page.expect_response("**/v1/search") as answered:
        ask(page, "effusion")
    hit = answered.value.json()["hits"][0]
    expect(case(page, 1)).to_be_visible()
    with Index.open(served.home, read_only=False) as index:
        remove_study(index, hit["study_id"])
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    told = page.get_by_role("complementary").get_by_role("alert")
    expect(told).to_contain_text("There is no such case: it may have been removed since you saw it.")
    expect(page.get_by_text("There is no such picture: its case may have been removed")).to_be_visible()
    ask(page, "effusion")
    expect(case(page, 1)).to_be_visible()
    assert page.locator(f"[data-case='{hit['id']}']").count() == 0


@pytest.mark.usefixtures("again")
def test_a_paste_of_200_megapixels_is_refused_in_a_sentence(page: Page) -> None:
    page.evaluate(
        """async (base64) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "film.png", {type: "image/png"}));
            document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
        }""",
        b64encode(huge_png(20_000, 10_000)).decode(),
    )
    failed = page.get_by_role("alert").filter(has_text="This search was not answered")
    expect(failed).to_contain_text("more pixels than the 60,000,000 that are read")


@pytest.mark.usefixtures("again")
def test_an_index_that_was_switched_while_leafing_is_told(page: Page, served: Served) -> None:
    ask(page, "nodule")
    expect(case(page, 12)).to_be_visible()
    with Index.open(served.home, read_only=False) as index:
        encoder = Encoder.load(served.second, "cpu")
        held = HeldStudies(index.catalog)
        add_source(index, held, encoder, origin="catalog", folder=str(served.second), workers=1)
        activate(index, encoder.fingerprint)
    page.get_by_role("button", name="More cases").click()
    told = page.get_by_role("alert").filter(has_text="The index was switched to another encoder meanwhile")
    expect(told).to_be_visible()
    expect(case(page, 12)).to_be_visible()
    ask(page, "nodule")
    page.get_by_role("button", name="More cases").click()
    expect(case(page, 13)).to_be_visible()


@pytest.mark.usefixtures("again")
def test_without_a_database_nothing_is_shown_and_with_it_everything_again(page: Page, served: Served) -> None:
    ask(page, "nodule")
    expect(case(page, 1)).to_be_visible()
    url = sa.make_url(served.database)
    everywhere = url.set(database="postgres").render_as_string(hide_password=False)

    def admit(connections: bool) -> None:
        with psycopg.connect(everywhere, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS {connections}".encode())
            if not connections:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [url.database],
                )

    admit(False)
    try:
        ask(page, "edema")
        failed = page.get_by_role("alert").filter(has_text="This search was not answered")
        expect(failed).to_contain_text("The database does not answer, so nothing can be shown")
        expect(page.get_by_role("article")).to_have_count(0)
        assert httpx.get(f"{served.address}readyz", timeout=DEADLINE_SECONDS).status_code == 503
        if SHOTS:
            page.screenshot(path=Path(SHOTS) / "database-down.png")
    finally:
        admit(True)
    page.get_by_role("button", name="Try again").click()
    expect(case(page, 1)).to_be_visible()
