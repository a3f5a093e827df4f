"""The settings of a process, from the environment (prefix `SIMILARITY_`); no other module reads it."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from corpus.errors import UsageError


class Settings(BaseSettings):
    """Settings of one process. Each field is read from `SIMILARITY_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="SIMILARITY_", extra="ignore")

    home: Path = Field(
        default=Path("~/.similarity"),
        description="Folder that holds everything of one index: catalog, vectors, key (mode 0700).",
    )
    key_command: SecretStr | None = Field(
        default=None,
        description="Command that writes the exported key of the index to its standard output, such as "
        "`vault kv get -field=key secret/similarity`: no key is then kept in the home. No shell runs it.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL of a Postgres server; without it a SQLite file in the home is used.",
    )
    qdrant_url: SecretStr | None = Field(
        default=None,
        description="URL of a Qdrant server (http without a port means 6333, https 443), or the URLs of the "
        "nodes of a cluster, separated by commas; without it the engine runs in this process.",
    )
    qdrant_api_key: SecretStr | None = Field(
        default=None, description="API key of that server, or of every node of that cluster."
    )
    server_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="How long Qdrant (all nodes together) or Postgres may take for one answer.",
    )
    server_wait_seconds: float = Field(
        default=60.0,
        ge=0,
        description="How long a job waits for a Qdrant or Postgres server that goes away while it runs.",
    )
    device: str = Field(
        default="auto",
        description="Where encoders run: auto, cpu, cuda, cuda:1, mps. Exported graphs run on the CPU, so "
        "that another device than auto or cpu means torch.",
    )
    runtime: Literal["auto", "onnx", "torch"] = Field(
        default="auto",
        description="What runs encoders: onnx (exported graphs in ONNX Runtime), torch, or auto (onnx where "
        "the encoder's folder has graphs, else torch).",
    )
    execution_providers: str | None = Field(
        default=None,
        description="Execution providers of ONNX Runtime that run exported graphs, separated by commas, "
        "such as cuda or OpenVINOExecutionProvider; without them the CPU does.",
    )
    export_graphs: bool = Field(
        default=True,
        description="Export graphs for ONNX Runtime with each trained, imported or pulled encoder.",
    )
    max_image_pixels: int = Field(
        default=120_000_000, gt=0, description="Images with more pixels than this are refused unread."
    )
    refine: str = Field(
        default="sam",
        pattern=r"^(sam(:.+)?|random-walker|none)$",
        description="How masks are refined along image edges: sam (LiteMedSAM or another local checkpoint, "
        "else the random walker), sam:NAME, sam:FILE, random-walker or none.",
    )
    sam_cache_mb: int = Field(
        default=1024,
        ge=0,
        description="Megabytes of SAM's image embeddings (2 MB an image) kept in the home.",
    )
    offline: bool = Field(
        default=False,
        description="Download nothing: state which file is needed, from where, and where to put it.",
    )
    hub: str = Field(
        default="https://huggingface.co",
        description="Hub, or a mirror of it, where `hf-hub:OWNER/REPOSITORY` is looked up.",
    )
    lock_wait_seconds: float = Field(
        default=30.0, ge=0, description="How long a job waits for another that owns the index."
    )

    match_padded_patient_ids: bool = Field(
        default=False, description="Patient ids of digits that differ by leading zeros name one patient."
    )
    report_language: str = Field(
        default="auto",
        pattern=r"^(auto|[a-z]{2,3})$",
        description="Language of the reports: auto (each report's is detected) or a code such as en or de.",
    )
    lexicons: Path | None = Field(
        default=None,
        description="Folder of tables, such as it.toml, by which reports of further languages are read.",
    )
    deidentify: bool = Field(
        default=True,
        description="Take names, dates and numbers out of report texts before they are indexed.",
    )
    upload_bytes: int = Field(
        default=100 << 20, gt=0, description="Largest request that the service reads, in bytes."
    )
    upload_pixels: int = Field(
        default=60_000_000, gt=0, description="Largest image that the service decodes for a request."
    )
    upload_seconds: float = Field(
        default=30.0, gt=0, description="How long a request may take to arrive at the service."
    )
    parse_seconds: float = Field(
        default=20.0, gt=0, description="How long the service's decode process may take for one image."
    )
    requests_per_minute: int = Field(
        default=1_200, gt=0, description="Requests the service answers to one user in a minute."
    )
    search_workers: int = Field(
        default=0,
        ge=0,
        description="Processes that search for the service, each with an encoder of its own; 0: its own "
        "threads do.",
    )
    session_hours: float = Field(
        default=12.0, gt=0, description="How long a browser stays signed in to the service."
    )
    secure_cookies: bool = Field(
        default=False, description="Browsers send the session by https only: set it behind a TLS proxy."
    )
    trusted_proxies: str = Field(
        default="127.0.0.1, ::1",
        description="Addresses and networks, separated by commas, of the reverse proxies that the service "
        "trusts for X-Forwarded-… and Forwarded headers.",
    )
    root_path: str = Field(
        default="", description="Path below which a reverse proxy serves the page, such as /similarity."
    )
    proxy_secret: SecretStr | None = Field(
        default=None,
        description="Secret with which a trusted proxy signs the user it names; without it none is trusted.",
    )
    viewer_url: str | None = Field(
        default=None,
        description="Link to a case in the site's viewer; it may hold {study_uid}, {accession}, {study_id}.",
    )
    sources_folder: Path | None = Field(
        default=None,
        description="Folder of the sources that may be indexed over HTTP; without it only phantoms may.",
    )

    @property
    def providers(self) -> tuple[str, ...]:
        """The names in `execution_providers`; `cpu` where there are none."""
        names = (self.execution_providers or "").split(",")
        return tuple(filter(None, map(str.strip, names))) or ("cpu",)

    @property
    def home_folder(self) -> Path:
        """The home with `~` expanded, absolute."""
        return self.home.expanduser().absolute()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once (`settings.cache_clear()` forces a new read).

    Raises:
        UsageError: an environment variable has an invalid value; the value is not repeated.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = {str(one["loc"][0]): one["msg"] for one in error.errors() if one["loc"]}
        reasons = (f"SIMILARITY_{name.upper()} ({_meaning(name)}): {why}" for name, why in wrong.items())
        raise UsageError(f"a setting cannot be used: {'; '.join(reasons)}") from None


def _meaning(name: str) -> str:
    return (Settings.model_fields[name].description or "").rstrip(".")
