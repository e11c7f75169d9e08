"""The command `likedo`: its commands by name, and errors told as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import click

#: Each command is the `command` of the module of its name, loaded when it is called.
COMMANDS = {
    "up": "Start all of it on this machine: web, worker, Valkey, SQLite.",
    "db": "Bring the database up to date.",
    "accounts": "Make, list and change accounts.",
    "keys": "Make, list and revoke API keys.",
    "credits": "Grant and show credits.",
    "jobs": "List, show, cancel and retry jobs.",
    "webhooks": "List webhooks, and send them again.",
    "media": "List and delete the images that are kept.",
    "workers": "List the workers that are alive.",
    "providers": "Show how the providers are doing.",
    "models": "List the models that callers can name, and check the catalogue.",
}


class Commands(click.Group):
    """The table above as a group. Help is printed without loading anything."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"cli.{cmd_name}").command
        import_module("cli.terminal.logs").to_standard_error()
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        with explained():
            return super().invoke(ctx)


@contextmanager
def explained() -> Iterator[None]:
    """Tell what goes wrong as one sentence that says what to do; leave bugs as they are."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as error:
        # What it needs is loaded by then, or the error could not have happened.
        from cli.terminal import explain

        if (sentence := explain.sentence(error)) is None:
            raise
        raise click.ClickException(sentence) from None


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """LikeDo AI API: one OpenAI-compatible address for many providers."""
