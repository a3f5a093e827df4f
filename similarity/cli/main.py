"""The `similarity` command: a table of commands, each imported when it is called.

`similarity --help` imports nothing but click: the help of a command is a line of the table.
"""

import gc
import importlib
import logging
import sys
from typing import Any

import click

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module and attribute in this package, one line of help)
    "demo": ("demo:demo", "Train, index, search, localize and draft on phantoms; write a page."),
    "corpus": ("corpus:corpus", "Inspect a source: its studies, its reports, the findings in them."),
    "train": ("train:train", "Train an encoder on any mix of sources."),
    "train-segmenter": (
        "train_segmenter:train_segmenter",
        "Train a segmenter on masks that a localizer made.",
    ),
    "evaluate": ("evaluate:evaluate", "Measure an encoder beside its baselines."),
    "encoders": ("encoders:encoders", "List, fetch, import and inspect encoders."),
    "index": ("index:index", "Embed a corpus; status, verify, remove, calibrate."),
    "draft": ("draft:draft", "Draft a report of an image from its neighbours, with its evidence."),
    "evaluate-drafts": ("evaluate_drafts:evaluate_drafts", "Measure drafts beside baselines."),
    "localize": ("localize:localize", "Show where in an image a finding is, or what corresponds to a case."),
    "evaluate-localization": (
        "evaluate_localization:evaluate_localization",
        "Measure localizers against ground-truth masks or boxes, beside baselines.",
    ),
    "stress": ("stress:stress", "Change lesions in images: do map, mask, laterality and rank follow?"),
    "search": ("search:search", "Find similar cases by an image, a phrase or a case."),
    "serve": ("serve:serve", "Serve the page and the HTTP API."),
    "token": ("token:token", "Create, list and revoke access tokens of the service."),
    "audit": ("audit:audit", "List who was shown which studies."),
    "doctor": ("doctor:doctor", "Check everything the program needs."),
    "key": ("key:key", "Export, import and compare the key that all machines of an index share."),
    "backup": ("backup:backup", "Write the whole index into one file."),
    "restore": ("backup:restore", "Restore an index from a backup."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(f"similarity.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="similarity-engine", prog_name="similarity")
@click.option("-v", "--verbose", is_flag=True, help="Log to stderr.")
def cli(verbose: bool) -> None:
    """Find earlier cases that look or read like the one in front of you.

    Research software, not a medical device.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("corpus.notices").setLevel(logging.WARNING)  # remarks on tables are always shown
    for name in ("trainer.models.export", "trainer.runtime.encoder"):  # and on an encoder without graphs
        logging.getLogger(name).setLevel(logging.WARNING)
    if not verbose:  # it remarks on connections that break, which our errors name
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)


def main(args: list[str] | None = None) -> Any:
    """Run the command line; a `SimilarityError` becomes one line on stderr and its exit code."""
    from corpus.errors import SimilarityError
    from corpus.extras import needs_extra

    # Imports and lexicons allocate much and free nothing: at the default of 700 the collector runs for a
    # fifth of the CPU time of a search.
    gc.set_threshold(50_000)
    given = sys.argv[1:] if args is None else args
    command = next((name for name in given if name in COMMANDS), "")
    try:
        with needs_extra(f"`similarity {command}`"):
            return cli.main(args=args, prog_name="similarity")
    except SimilarityError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
