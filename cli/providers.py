"""`likedo providers`: the health of the providers."""

import click

from cli.terminal import logs
from cli.terminal.output import json_option, show_all

COLUMNS = ("name", "state", "breaker", "error_rate", "latency_seconds", "keys", "base_url")


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Show each provider's state, breaker, error rate, latency and keys."""
    from cli.local import instance
    from routing import health

    logs.to_standard_error()
    instance.use_its_redis()
    providers = health.report()
    show_all(providers if as_json else list(map(_as_line, providers)), COLUMNS, as_json)


def _as_line(provider: dict[str, object]) -> dict[str, object]:
    keys = provider["keys"]
    assert isinstance(keys, list)
    states = [f"{key['number']}: {key['reason'] or key['state']}" for key in keys]
    return provider | {"keys": ", ".join(states)}
