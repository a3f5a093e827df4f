"""The client of a Qdrant server or cluster: its connection and version."""

import importlib.metadata
import math
import warnings
from collections.abc import Sequence

from pydantic import SecretStr
from qdrant_client import QdrantClient
from qdrant_client.common.version_check import is_compatible

from corpus.errors import HomeError
from corpus.settings import settings
from indexer.servers import QdrantAddress
from indexer.vectors.nodes import Nodes
from indexer.vectors.server_failures import KEY_SETTING

CLIENT_VERSION = importlib.metadata.version("qdrant-client")


def connect(addresses: QdrantAddress | Sequence[QdrantAddress], key: SecretStr | None) -> QdrantClient:
    """Return a client of a server, or of the nodes of a cluster; it connects with its first call.

    Each call has the time limit of the settings, however many nodes there are.

    Raises:
        HomeError: the key has characters that no HTTP header may have; the message does not repeat it.
    """
    nodes = (addresses,) if isinstance(addresses, QdrantAddress) else tuple(addresses)
    seconds = settings().server_timeout_seconds
    text = key.get_secret_value().strip() if key is not None else ""
    if not text.isascii() or not text.isprintable():
        raise HomeError(f"{KEY_SETTING} holds signs that cannot be sent: copy the key again")
    with warnings.catch_warnings():
        # The client prints two lines at every command that a key goes over http; `doctor` says it once.
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
        client = QdrantClient(
            url=nodes[0].url,
            port=nodes[0].port,
            api_key=text or None,
            timeout=math.ceil(seconds),
            check_compatibility=False,
        )
    client.http.client.add_middleware(Nodes(nodes, seconds))
    return client


def supported(version: str) -> bool:
    """Return whether the client works with a server of this version, by the client's own rule."""
    return is_compatible(CLIENT_VERSION, version)
