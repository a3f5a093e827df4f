"""The page behind a real reverse proxy, below a path, under another host: signing in, searching, images."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from corpus.settings import settings
from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.service.access import Role, Tokens
from tests.encoders import build_tiny_encoder
from tests.end_to_end.page_actions import case, search
from tests.end_to_end.reverse_proxy import proxying
from tests.end_to_end.served import serving
from trainer.runtime.encoder import Encoder

COHORT = "phantom:6@4"
BELOW = "/ward/similar"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A service over a small cohort without a configured root path: its address, and a reader's token."""
    folder = tmp_path_factory.mktemp("proxied")
    encoder_folder = build_tiny_encoder(folder / "tiny")
    settings.cache_clear()
    with Index.open(folder / "home", read_only=False) as index:
        encoder = Encoder.load(encoder_folder, "cpu")
        origin = str(encoder_folder)
        add_source(index, open_source(COHORT), encoder, origin=COHORT, folder=origin, workers=0)
        _, token = Tokens(index.catalog.engine).create(Role.READER, "Dr. Reader")
    with serving(folder / "home") as address:
        yield address, token


@pytest.mark.parametrize("strip", [True, False], ids=["path stripped", "path left"])
def test_a_reader_signs_in_searches_and_sees_images_below_a_path(
    upstream: tuple[str, str], browser: Browser, strip: bool
) -> None:
    service, token = upstream
    with proxying(service, BELOW, strip=strip) as address:
        if not strip:
            with httpx.Client(follow_redirects=True) as client:
                assert str(client.get(address).url) == f"{address}/"
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        failed: list[str] = []
        page = context.new_page()
        page.on("response", lambda response: failed.append(response.url) if response.status == 404 else None)
        page.goto(f"{address}/")
        page.get_by_label("Access token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("Dr. Reader")).to_be_visible()
        (cookie,) = context.cookies()
        assert cookie["path"] == BELOW
        search(page, "pleural effusion")
        thumbnail = case(page, 1).locator("img").first
        expect(thumbnail).to_be_visible()
        page.wait_for_function(
            "image => image.complete && image.naturalWidth > 0", arg=thumbnail.element_handle()
        )
        page.reload()
        expect(page.get_by_text("Dr. Reader")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Access token")).to_be_visible()
        assert failed == []
        context.close()
