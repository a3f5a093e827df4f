"""What the surroundings decide: the one place that reads the environment (prefix `SIMILARITY_`)."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of one process. Each field is read from `SIMILARITY_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="SIMILARITY_", extra="ignore")

    home: Path = Field(
        default=Path("~/.similarity"),
        description="Folder that holds everything of one index: catalog, vectors, key (mode 0700).",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL of a Postgres server; without it a SQLite file in the home is used.",
    )
    qdrant_url: str | None = Field(
        default=None, description="URL of a Qdrant server; without it the engine runs in this process."
    )
    qdrant_api_key: SecretStr | None = Field(default=None, description="API key of that server.")
    device: str = Field(default="auto", description="Where encoders run: auto, cpu, cuda, cuda:1, mps.")
    max_image_pixels: int = Field(
        default=120_000_000, gt=0, description="Pictures with more pixels than this are refused unread."
    )
    offline: bool = Field(
        default=False,
        description="Download nothing: say which file is wanted, from where, and where to put it.",
    )
    lock_wait_seconds: float = Field(
        default=30.0, ge=0, description="How long a job waits for another that owns the index."
    )

    @property
    def home_folder(self) -> Path:
        """The home with `~` expanded, absolute."""
        return self.home.expanduser().absolute()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once (`settings.cache_clear()` reads them anew)."""
    return Settings()
