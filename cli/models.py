"""`likedo models`: what callers can name."""

import click

from cli.output import json_option, show_all
from config.catalog import as_json as model_as_json
from routing import routes


@click.group()
def command() -> None:
    """List the models that callers can name."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the catalogue, with the providers that would answer now."""
    models = [model_as_json(model, routes.providers_of(model)) for model in routes.listed()]
    show_all(models, ("id", "kind", "owned_by", "providers", "successor"), as_json)
