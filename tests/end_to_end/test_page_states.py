"""The page in exceptional states: an abstention, a removed case, a switched index, two tabs, a large
upload, a database that is down. Real service, real browser, catalog on a real Postgres."""

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
from indexer.versions import CatalogSource, activate
from retrieval.reliability.conformal import Guarantee
from retrieval.reliability.ood import REFUSAL, OutOfDistributionDetector
from retrieval.service.access import Role, Tokens
from tests.encoders import build_tiny_encoder
from tests.end_to_end.page_actions import case, draw, expect_coloured, search, upload
from tests.end_to_end.served import serving
from tests.indexer.postgres import fresh_database, postgres_server
from tests.retrieval.service.test_bad_input import huge_png
from tests.waiting import DEADLINE_SECONDS
from trainer.runtime.encoder import Encoder

COHORT = "phantom:30@5"
SHOTS = os.environ.get("PAGE_SHOTS")


@dataclass(frozen=True)
class Served:
    """A service: token, home, database, an indexed image, one out of distribution, and a second encoder."""

    address: str
    token: str
    home: Path
    database: str
    indexed: Path
    unlike: Path
    second: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("states")
    first, second = build_tiny_encoder(folder / "one"), build_tiny_encoder(folder / "two", seed=1)
    with ExitStack() as resources:
        database = resources.enter_context(fresh_database(resources.enter_context(postgres_server())))
        environment = resources.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("SIMILARITY_DATABASE_URL", database)
        settings.cache_clear()
        resources.callback(settings.cache_clear)
        with Index.open(folder / "home", read_only=False) as index:
            encoder = Encoder.load(first, "cpu")
            add_source(index, open_source(COHORT), encoder, origin=COHORT, folder=str(first), workers=0)
            index.calibrations.keep(encoder.fingerprint, refusing(encoder))
            _, token = Tokens(index.catalog.engine).create(Role.READER, "Dr. Reader")
        shown = (read_image("phantom://5/3") * 65535).round().astype(np.uint16)
        Image.fromarray(shown).save(folder / "indexed.png")
        unlike = draw(folder / "unlike.png", 60)
        address = resources.enter_context(serving(folder / "home", database_url=database))
        yield Served(address, token, folder / "home", database, folder / "indexed.png", unlike, second)


def refusing(encoder: Encoder) -> dict[str, dict[str, object]]:
    """Return calibrations under which nothing is guaranteed and every other image is out of distribution."""
    (seen,) = encoder.encode_backbone([read_image("phantom://5/3")])
    detector = OutOfDistributionDetector(
        np.zeros(len(seen)), np.zeros((1, len(seen))), np.ones(1), 1.0, -1.0, 200
    )
    nothing = {k: {"rest": None} for k in range(1, 51)}
    return {"gate": detector.as_json(), "guarantee": Guarantee({"cases": nothing}, 200).as_json()}


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


def test_a_missing_guarantee_is_stated_before_the_cases(page: Page, served: Served) -> None:
    upload(page, served.indexed)
    notice = page.get_by_role("note").filter(has_text="Nothing like this here: not one of these 12 ")
    expect(notice).to_be_visible()
    expect(case(page, 1)).to_be_visible()
    below, above = case(page, 1).bounding_box(), notice.bounding_box()
    assert below is not None
    assert above is not None
    assert above["y"] < below["y"]


def test_an_image_out_of_distribution_finds_nothing_and_the_reason_is_stated(
    page: Page, served: Served
) -> None:
    upload(page, served.unlike)
    expect(page.get_by_role("heading", name="No cases are shown")).to_be_visible()
    expect(page.get_by_text(REFUSAL)).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(0)
    page.get_by_role("heading", name="Draft report").click()
    page.get_by_role("button", name="Write a draft").click()
    draft = page.get_by_role("complementary")
    expect(draft.get_by_role("note").filter(has_text=f"No draft: {REFUSAL}")).to_be_visible()


def test_correspondence_is_marked_in_both_images(page: Page) -> None:
    search(page, "pleural effusion")
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    page.get_by_role("button", name="Search with this case").click()
    mine = page.get_by_role("application", name="Your image: case 1")
    expect(mine).to_be_visible()
    page.get_by_role("button", name="Compare case 2", exact=True).click()
    theirs = page.get_by_role("application", name="Image of the open case: case 2")
    page.get_by_role("button", name="Show correspondence").click()
    expect(page.get_by_text("Strongest correspondence in the open case")).to_be_visible()
    expect(page.get_by_text("Strongest correspondence for your image; number: strength")).to_be_visible()
    expect_coloured(mine)
    expect_coloured(theirs)
    page.get_by_role("button", name="Spot", exact=True).click()
    mine.click(position={"x": 120, "y": 120})
    expect(page.locator(".caption").filter(has_text="Best match in the open case")).to_be_visible()
    expect(page.get_by_text("Best match for your image; number: cosine")).to_be_visible()
    expect_coloured(mine)
    expect_coloured(theirs)


def test_two_tabs_share_one_list_and_have_separate_queries(page: Page, signed_in: BrowserContext) -> None:
    other = tab(signed_in)
    search(page, "nodule")
    search(other, "cardiomegaly")
    case(page, 1).get_by_role("button", name="Add case 1 to list").click()
    expect(other.get_by_role("button", name="Lists (1)")).to_be_visible()
    case(other, 2).get_by_role("button", name="Add case 2 to list").click()
    for one in (page, other):
        expect(one.get_by_role("button", name="Lists (2)")).to_be_visible()
    expect(page.get_by_label("Describe findings")).to_have_value("nodule")
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_label("Access token")).to_be_visible()
    search(page, "edema")
    expect(page.get_by_label("Access token")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(0)


@pytest.fixture
def again(served: Served, signed_in: BrowserContext) -> None:
    """Sign the browser in again."""
    answer = signed_in.request.post(
        "/v1/session", data={"token": served.token}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.ok


@pytest.mark.usefixtures("again")
def test_a_removed_study_is_reported_in_an_open_tab(page: Page, served: Served) -> None:
    with page.expect_response("**/v1/search") as answered:
        search(page, "effusion")
    hit = answered.value.json()["hits"][0]
    expect(case(page, 1)).to_be_visible()
    with Index.open(served.home, read_only=False) as index:
        remove_study(index, hit["study_id"])
    page.get_by_role("button", name="Compare case 1", exact=True).click()
    notice = page.get_by_role("complementary").get_by_role("alert")
    expect(notice).to_contain_text("There is no such case: it may have been removed since you saw it.")
    expect(page.get_by_text("There is no such image: its case may have been removed")).to_be_visible()
    search(page, "effusion")
    expect(case(page, 1)).to_be_visible()
    assert page.locator(f"[data-case='{hit['id']}']").count() == 0


@pytest.mark.usefixtures("again")
def test_a_paste_of_200_megapixels_is_refused_in_a_sentence(page: Page) -> None:
    page.evaluate(
        """async (base64) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "image.png", {type: "image/png"}));
            document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
        }""",
        b64encode(huge_png(20_000, 10_000)).decode(),
    )
    failed = page.get_by_role("alert").filter(has_text="This search was not answered")
    expect(failed).to_contain_text("60,000,000")


@pytest.mark.usefixtures("again")
def test_a_switched_index_is_reported_on_the_next_page(page: Page, served: Served) -> None:
    search(page, "nodule")
    expect(case(page, 12)).to_be_visible()
    with Index.open(served.home, read_only=False) as index:
        encoder = Encoder.load(served.second, "cpu")
        catalog = CatalogSource(index.catalog)
        add_source(index, catalog, encoder, origin="catalog", folder=str(served.second), workers=0)
        activate(index, encoder.fingerprint)
    page.get_by_role("button", name="More cases").click()
    notice = page.get_by_role("alert").filter(has_text="The index was switched to another encoder meanwhile")
    expect(notice).to_be_visible()
    expect(case(page, 12)).to_be_visible()
    search(page, "nodule")
    page.get_by_role("button", name="More cases").click()
    expect(case(page, 13)).to_be_visible()


@pytest.mark.usefixtures("again")
def test_without_a_database_nothing_is_shown_and_afterwards_everything_again(
    page: Page, served: Served
) -> None:
    search(page, "nodule")
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
        search(page, "edema")
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
