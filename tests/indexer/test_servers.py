"""URLs of servers: read as users write them, refused in one sentence that repeats no secret."""

import psycopg
import pytest
import sqlalchemy as sa

from corpus.errors import HomeError, ServerUnavailable
from indexer.catalog.database import postgres_url
from indexer.catalog.database_failures import address_of, database_error
from indexer.servers import qdrant_address

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://host", "http://host:6333"),
        ("https://host", "https://host:443"),
        ("https://host:6333/qdrant/", "https://host:6333/qdrant"),
        ("HTTP://host:80", "http://host:80"),
        ("localhost:7000", "http://localhost:7000"),
        ("10.0.0.1", "http://10.0.0.1:6333"),
        ("http://[::1]:7000", "http://[::1]:7000"),
        (" http://host:6333\n", "http://host:6333"),
    ],
)
def test_a_qdrant_url_without_a_port_means_6333_and_over_https_443(text: str, url: str) -> None:
    assert qdrant_address(text).url == url


def test_a_login_in_a_qdrant_url_is_used_and_shown_nowhere() -> None:
    address = qdrant_address(f"https://user:{SECRET}%40x@host")
    assert address.login == ("user", f"{SECRET}@x")
    assert SECRET not in repr(address)
    assert address.url == "https://host:443"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "set, and empty"),
        (f"grpc://user:{SECRET}@host:6334", "does not begin with http"),
        (f"http://user:{SECRET}@host:abc", "the port"),
        (f"http://user:{SECRET}@host:99999", "the port"),
        (f"http://user:{SECRET}@host:0", "the port"),
        (f"http://user:{SECRET}@host:", "no port"),
        (f"http://user:{SECRET}@:6333", "no host"),
        (f"http://user:{SECRET}@[::1:6333", "no address"),
        (f"http://host:6333?api_key={SECRET}", "SIMILARITY_QDRANT_API_KEY"),
        ("http://host:${QDRANT_PORT}", "the variable QDRANT_PORT"),
        ("http://${QDRANT_HOST:-}:6333", "the variable QDRANT_HOST"),
        ("http://$QDRANT_HOST:6333", "the variable QDRANT_HOST"),
        ("http://%QHOST%:6333", "the variable QHOST"),
        ("$QDRANT_URL", "the variable QDRANT_URL"),
        (f"http://user:{SECRET}@2@host", "write @ as %40"),
        (f"http://user:{SECRET}/2@host", "/ as %2F"),
        (f"http://user:{SECRET}?2@host", r"\? as %3F"),
        (f"http://user:{SECRET}#2@host", "# as %23"),
    ],
)
def test_a_qdrant_url_that_is_none_is_refused_without_its_secret(text: str, says: str) -> None:
    with pytest.raises(HomeError, match=says) as caught:
        qdrant_address(text)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "POSTGRESQL"])
def test_each_spelling_of_postgres_gets_the_driver_that_is_installed(scheme: str) -> None:
    url = postgres_url(f"{scheme}://user:p%40ss$word@host/base")
    assert url.drivername == "postgresql+psycopg"
    assert (url.password, url.database) == ("p@ss$word", "base")
    assert address_of(url) == "host:5432"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "set, and empty"),
        ("nonsense", "no database URL"),
        (f"mysql://user:{SECRET}@host/d", "use postgresql"),
        (f"http://user:{SECRET}@host/d", "use postgresql"),
        (f"postgresql://user:{SECRET}@host:abc/d", "the port"),
        (f"postgresql://user:{SECRET}@host:70000/d", "the port"),
        (f"postgresql://user:{SECRET}@host:/d", "no port"),
        (f"postgresql://user:{SECRET}@host:${{PGPORT}}/d", "the variable PGPORT"),
        (f"postgresql://user:{SECRET}@host/$PGDATABASE", "the variable PGDATABASE"),
        ("postgresql://user:${PGPASSWORD}@host/d", "the password .* is a variable"),
        (f"postgresql://user:{SECRET}@x/y@host/d", "write @ as %40"),
        (f"postgresql://user:1/{SECRET}@host/d", "/ as %2F"),
    ],
)
def test_a_database_url_that_is_none_is_refused_without_its_secret(text: str, says: str) -> None:
    with pytest.raises(HomeError, match=says) as caught:
        postgres_url(text)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says", "away"),
    [
        ("the database system is starting up", "starting or shutting down", True),
        ("the database system is not yet accepting connections", "starting or shutting down", True),
        ("the database system is in recovery mode", "starting or shutting down", True),
        ("the database system is shutting down", "starting or shutting down", True),
        ('database "similarity" does not exist', "has no database of that name", False),
    ],
)
def test_a_postgres_that_restarts_is_waited_for_and_one_without_the_database_is_not(
    words: str, says: str, away: bool
) -> None:
    failed = psycopg.OperationalError(
        f'connection failed: connection to server at "host" failed: FATAL:  {words}'
    )
    error = database_error(
        sa.create_engine("postgresql+psycopg://host/similarity"), sa.exc.OperationalError(None, None, failed)
    )
    assert isinstance(error, ServerUnavailable)
    assert says in str(error)
    assert error.away is away
