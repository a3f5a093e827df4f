"""Which servers an index is on: named by the caller, else by the settings."""

from dataclasses import dataclass

from pydantic import SecretStr

from corpus.settings import settings


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the catalog and the vectors are. None: in the home.

    `database_url`: of Postgres. `qdrant_url`, `qdrant_api_key`: of Qdrant. None of them is ever shown.
    """

    database_url: SecretStr | None = None
    qdrant_url: SecretStr | None = None
    qdrant_api_key: SecretStr | None = None

    @classmethod
    def named(
        cls,
        database_url: str | None = None,
        qdrant_url: str | None = None,
        qdrant_api_key: str | None = None,
    ) -> "Servers":
        """Return those that are named; each that is not is as the settings have it."""
        known = settings()
        return cls(
            known.database_url if database_url is None else SecretStr(database_url),
            known.qdrant_url if qdrant_url is None else SecretStr(qdrant_url),
            known.qdrant_api_key if qdrant_api_key is None else SecretStr(qdrant_api_key),
        )
