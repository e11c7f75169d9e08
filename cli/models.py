"""`likedo models`: what callers can name."""

import click

from cli.output import json_option, show_all
from routing import models, routes


@click.group()
def command() -> None:
    """List the models that callers can name."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the catalogue, with the providers that would answer now."""
    columns = ("id", "kind", "owned_by", "providers", "successor", "retires")
    show_all([models.as_json(model) for model in routes.listed()], columns, as_json)
