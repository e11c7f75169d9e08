"""The command `likedo`: its subcommands by name, and errors reported as one sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import click

#: Each subcommand with its help. It is the `command` of the module of its name, loaded when called.
COMMANDS = {
    "up": "Run everything on this machine: web, worker, Valkey, SQLite.",
    "db": "Bring the database up to date.",
    "accounts": "Create, list and change accounts.",
    "keys": "Create, list and revoke API keys.",
    "credits": "Grant and show credits.",
    "jobs": "List, show, cancel and retry jobs.",
    "webhooks": "List webhooks and send them again.",
    "media": "List and delete stored images.",
    "workers": "List the workers that are alive.",
    "providers": "Show the health of the providers.",
    "models": "List the models that callers can name, and check the catalogue.",
}


class Commands(click.Group):
    """The subcommands in `COMMANDS`. Help is printed without loading any of them.

    A subcommand's module imports only what its options need; its functions import the rest, so
    that no command waits for another's imports.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        os.umask(0o077)  # The files that commands write are nobody else's to read.
        with explained():
            return super().invoke(ctx)


@contextmanager
def explained() -> Iterator[None]:
    """Report errors as one sentence that says what to do; raise bugs unchanged."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as error:
        from cli.terminal import explain

        if (sentence := explain.sentence(error)) is None:
            raise
        raise click.ClickException(sentence) from None


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="likedo", prog_name="likedo", message="%(prog)s %(version)s")
def main() -> None:
    """LikeDo AI API: one OpenAI-compatible address for many providers."""
