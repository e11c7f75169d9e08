"""`likedo providers`: who answers, and how they are doing."""

import click

from cli.local import instance
from cli.terminal.output import json_option, show_all
from routing import health

COLUMNS = ("name", "state", "breaker", "error_rate", "latency_seconds", "keys", "base_url")


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Show how each provider is doing: its state, breaker, error rate, latency and keys."""
    instance.use_its_redis()
    found = health.report()
    show_all(found if as_json else list(map(_in_a_row, found)), COLUMNS, as_json)


def _in_a_row(provider: dict[str, object]) -> dict[str, object]:
    keys = provider["keys"]
    assert isinstance(keys, list)
    told = [f"{key['number']}: {key['reason'] or key['state']}" for key in keys]
    return provider | {"keys": ", ".join(told)}
