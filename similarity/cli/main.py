"""The `similarity` command: one tree over the commands of all rooms, each loaded when it is called.

`similarity --help` imports nothing but click: the help of a command is a line here, the command itself is
imported on use.
"""

import importlib
import logging
import sys
from typing import Any

import click

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module:attribute, one line of help)
    "demo": (
        "similarity.cli.demo:demo",
        "Train, index, search, evaluate on phantoms; write a page of pictures.",
    ),
    "corpus": ("similarity.cli.corpus:corpus", "Look at a source: what it holds, what its reports say."),
    "train": ("similarity.cli.train:train", "Train an encoder on any mix of sources."),
    "train-segmenter": (
        "similarity.cli.train_segmenter:train_segmenter",
        "Learn to draw structures from masks that a localizer made.",
    ),
    "evaluate": ("similarity.cli.evaluate:evaluate", "Measure an encoder beside its baselines."),
    "encoders": ("similarity.cli.encoders:encoders", "List, fetch, import and inspect encoders."),
    "index": ("similarity.cli.index_calibrate:index", "Embed a corpus; status, verify, remove, calibrate."),
    "draft": (
        "similarity.cli.draft:draft",
        "Draft a report of a film from its neighbours, with its evidence.",
    ),
    "evaluate-drafts": ("similarity.cli.evaluate_drafts:evaluate_drafts", "Measure drafts beside baselines."),
    "localize": (
        "similarity.cli.localize:localize",
        "Show where in a film a finding is, or what is like a case.",
    ),
    "evaluate-localization": (
        "similarity.cli.evaluate_localization:evaluate_localization",
        "Measure localizers against true masks or boxes, beside baselines.",
    ),
    "stress": (
        "similarity.cli.stress:stress",
        "Change lesions in films: do map, mask, side and rank follow?",
    ),
    "search": ("similarity.cli.search:search", "Find similar cases from a picture, a phrase or a case."),
    "serve": ("similarity.cli.serve:serve", "Serve the page and the HTTP interface."),
    "token": ("similarity.cli.token:token", "Make, list and revoke the tokens of the service."),
    "audit": ("similarity.cli.audit:audit", "List who was shown what."),
    "doctor": ("similarity.cli.doctor:doctor", "Look at everything the program needs."),
    "backup": ("similarity.cli.backup:backup", "Write everything of the index into one file."),
    "restore": ("similarity.cli.backup:restore", "Make a home of a backup."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported only when one of them runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command asked for."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="similarity-engine", prog_name="similarity")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, to stderr.")
def cli(verbose: bool) -> None:
    """Find earlier cases that look or read like the one in front of you.

    Research software, not a medical device.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("corpus.notices").setLevel(logging.WARNING)  # how tables were read is always told


def main(args: list[str] | None = None) -> Any:
    """Run the command line; an error of ours becomes one line on stderr and its exit code."""
    from corpus.errors import SimilarityError

    try:
        return cli.main(args=args, prog_name="similarity")
    except SimilarityError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
