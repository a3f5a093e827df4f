"""Opening the vectors of an index: embedded in its home, or on a Qdrant server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from corpus.errors import ServerUnavailable
from indexer.belonging import check_embedded, check_server
from indexer.catalog.catalog import Catalog
from indexer.catalog.identity import Identity
from indexer.home import Home
from indexer.retries import RetryPolicy
from indexer.servers import Servers, qdrant_addresses, qdrant_name
from indexer.vectors.store import VectorStore

if TYPE_CHECKING:
    from indexer.vectors.server import ServerStore


@contextmanager
def open_store(
    home: Home,
    catalog: Catalog,
    on_wait: Callable[[str], None] | None = None,
    retry: RetryPolicy | None = None,
    servers: Servers | None = None,
    *,
    read_only: bool = True,
    check: bool = True,
) -> Iterator[VectorStore]:
    """Open the vectors of an index: on the Qdrant server, where one is named, else the embedded ones.

    Args:
        home: the home.
        catalog: of the index.
        on_wait: gets a line when another process owns the embedded ones.
        retry: how long a server that goes away is waited for; default not at all.
        servers: default as the settings have it.
        read_only: nothing will be written; a server that is away is noticed when it is read.
        check: see `Index.open`.

    Raises:
        IndexInUse: another process owns the embedded ones, and did not end in time.
        HomeError: the URL or key of the server is malformed.
        WrongVectors: they are of another index than the catalog.
    """
    from indexer import owner  # late: with a server the engine is not needed

    served = server_store(catalog.identity(), retry, servers)
    if served is None:
        with owner.embedded_store(home, on_wait) as store:
            if check:
                check_embedded(home, catalog, store, read_only=read_only)
            yield store
        return
    try:
        with suppress(*([ServerUnavailable] if read_only else [])):
            if check:
                check_server(served.name, catalog, served, read_only=read_only)
        yield served
    finally:
        served.close()


def server_store(
    identity: Identity, retry: RetryPolicy | None = None, servers: Servers | None = None
) -> "ServerStore | None":
    """Return an index's collections on the Qdrant server; None where no server is named.

    Args:
        identity: of the index.
        retry: how long a server that goes away is waited for; default not at all.
        servers: default as the settings have it.

    Raises:
        HomeError: the URL or key is malformed; the message does not repeat it.
    """
    servers = servers or Servers.named()
    if servers.qdrant_url is None:
        return None
    addresses = qdrant_addresses(servers.qdrant_url.get_secret_value())
    from indexer.vectors.client import connect
    from indexer.vectors.server import ServerStore

    client = connect(addresses, servers.qdrant_api_key)
    return ServerStore(client, qdrant_name(addresses), retry, namespace=identity.namespace)
