"""The tables of the catalog are those of the migrations, on both databases."""

import stat
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import migrations
from corpus.errors import HomeError, IndexingError
from corpus.settings import settings
from indexer.catalog.database import database_url, open_database
from indexer.catalog.models import Base, ItemRow, StudyRow
from indexer.home import Home


def test_the_migrations_make_what_the_models_say(database: str) -> None:
    engine = open_database(Home.open())
    assert engine.dialect.name == {"sqlite": "sqlite", "postgres": "postgresql"}[database]
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_opening_again_changes_nothing(database: str) -> None:
    open_database(Home.open()).dispose()
    engine = open_database(Home.open())
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == migrations.HEAD
    engine.dispose()


def test_the_head_that_is_compared_on_opening_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


def test_a_catalog_of_a_newer_program_is_refused(database: str) -> None:
    engine = open_database(Home.open())
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(IndexingError, match="newer version"):
        open_database(Home.open())


def test_a_catalog_with_localizations_is_migrated_without_them(database: str) -> None:
    engine = open_database(Home.open())
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0007")
        connection.execute(
            sa.insert(StudyRow).values(
                study_id="s",
                study_key=Home.open().keyed("study", "s"),
                subject_id="p",
                source="x",
                findings={},
                attributes={},
                content="c",
            )
        )
        connection.execute(
            sa.insert(ItemRow).values(
                item_id="s#i", study_id="s", point_id=UUID(int=1), kind="image", position=0, content="c"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO localization (item_id, fingerprint, phrase, method, answer) "
                "VALUES ('s#i', 'f', 'nodule', 'patches', '{}')"
            )
        )
    engine.dispose()
    engine = open_database(Home.open())
    with engine.connect() as connection:
        assert not sa.inspect(connection).has_table("localization")
        assert connection.scalar(sa.select(ItemRow.item_id)) == "s#i"
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_default_file_is_private_and_keeps_its_promises(home: Path) -> None:
    engine = open_database(Home.open())
    with engine.connect() as connection:
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(sa.text("PRAGMA foreign_keys")) == 1
        for file in home.glob("catalog.sqlite*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "no database URL"),
        ("mysql://u:secret@h/d", "use postgresql"),
        ("postgresql://u:secret@127.0.0.1:1/d", "cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_named_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str, says: str
) -> None:
    monkeypatch.setenv("SIMILARITY_DATABASE_URL", url)
    settings.cache_clear()
    with pytest.raises(HomeError, match=says) as caught:
        open_database(Home.open())
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_postgres_url_without_a_driver_gets_the_one_that_is_installed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_DATABASE_URL", "postgresql://u@h/d")
    settings.cache_clear()
    assert database_url(Home.open()).drivername == "postgresql+psycopg"
