"""`similarity serve`: the command. Only click is imported until it runs."""

import click

from similarity.cli.console import note


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8642, show_default=True, help="0 takes a free one."
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Put a TLS proxy in front before you open it."
)
@click.option(
    "--root-path",
    metavar="PATH",
    help="Path below which a reverse proxy serves the page, such as /similarity (SIMILARITY_ROOT_PATH).",
)
def serve(port: int, host: str, root_path: str | None) -> None:
    """Serve the page and the HTTP API on this home.

    While it runs it owns the home's embedded vector store; other commands go through it. Sign in with a token
    of `similarity token create`. Logs are JSON lines on stderr; SIGTERM and Ctrl-C end it gracefully.
    """
    from retrieval.service.server import run

    run(host, port, on_wait=note, on_ready=click.echo, root=root_path)
