"""What several commands open: the index, and encoders by name. Only click is imported until one is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from similarity.cli.console import note

if TYPE_CHECKING:
    from indexer.catalog.catalog import Catalog
    from indexer.index import Index
    from trainer.runtime.encoder import Encoder


def open_index(encoder: str | None = None) -> Index:
    """Open the index to search in; the caller closes it.

    Args:
        encoder: folder or name; the index version of this encoder is searched. None: the active version.

    Raises:
        EmptyIndex: nothing was indexed yet; found before anything slow is imported.
        EncoderError: there is no such encoder, or the index has no version of it.
    """
    from indexer.index import Index

    index = Index.open(on_wait=note)
    try:
        index.active_version  # noqa: B018  raises EmptyIndex
        if encoder is not None:
            index.use(open_encoder(encoder))
    except BaseException:
        index.close()
        raise
    return index


def open_encoder(name: str, device: str | None = None) -> Encoder:
    """Load an encoder by folder or name; a wrong name is found before torch is imported.

    Args:
        name: an encoder's folder or name.
        device: where it runs; None: the setting `SIMILARITY_DEVICE`.
    """
    from corpus.settings import settings
    from trainer.models.resolve import open_encoder as open_by_name

    return open_by_name(name, device=device or settings().device)


@contextmanager
def open_catalog() -> Iterator[Catalog]:
    """Open the catalog of the home alone, for commands that need neither vectors nor encoder."""
    from indexer.catalog.catalog import Catalog
    from indexer.home import Home

    catalog = Catalog.open(Home.open())
    try:
        yield catalog
    finally:
        catalog.close()
