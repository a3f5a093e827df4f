"""How Alembic reaches the catalog: on a connection that is handed to it, or on this user's own home."""

import sqlalchemy as sa
from alembic import context

from indexer.catalog.models import Base


def _run(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run_on_home() -> None:
    from indexer.catalog.database import database_url
    from indexer.home import Home

    engine = sa.create_engine(database_url(Home.open()), poolclass=sa.NullPool)
    with engine.connect() as connection:
        _run(connection)


if "connection" in context.config.attributes:
    _run(context.config.attributes["connection"])
else:
    _run_on_home()
