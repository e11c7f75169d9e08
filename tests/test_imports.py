"""Who may import whom: the layers of the house, and the few doors to the outside."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: What each layer may import of ours, beside itself and `config`.
LAYERS = {
    "config": set[str](),
    "models": set[str](),
    "providers": {"models"},
    "storage": {"models"},
    "access": {"models"},
    "billing": {"models"},
    "routing": {"models", "providers"},
    "jobs": {"models", "providers", "routing", "billing", "storage"},
    "api": {"models", "routing", "access", "billing", "jobs", "storage"},
}
#: These wire the layers together, so they may import any of them. No layer imports these.
WIRING = {"app", "worker", "cli", "web", "ops", "bench", "migrations"}

#: A module of others, and the files or folders of ours that may import it.
DOORS = {
    "flask": {"app", "api", "web", "ops", "bench"},
    "rq": {"jobs", "worker", "cli", "bench"},
    "requests": {"providers/http", "bench"},
    "boto3": {"storage/s3"},
    "botocore": {"storage/s3"},
    "PIL": {"storage/pictures", "providers/sandbox_images"},
    "os.environ": {"config/settings"},
    "os.environb": {"config/settings"},
    "os.getenv": {"config/settings"},
    "os.putenv": {"config/settings"},
}
#: Providers hold no state: of the models they know the spoken ones, and no database.
NOT_FOR_PROVIDERS = {
    "sqlmodel",
    "sqlalchemy",
    "redis",
    "models.account",
    "models.credit",
    "models.database",
    "models.job",
    "models.media",
    "models.shot",
    "models.webhook",
    "models.worker",
}

FILES = sorted(
    path
    for top in LAYERS.keys() | WIRING
    for path in [ROOT / f"{top}.py", *(ROOT / top).rglob("*.py")]
    if path.is_file()
)


def test_a_file_imports_only_what_it_may() -> None:
    found = {}

    for path in FILES:
        module = str(path.relative_to(ROOT).with_suffix(""))
        found[module] = list(forbidden(module, path.read_text(encoding="utf-8")))

    assert {module: names for module, names in found.items() if names} == {}


def test_every_folder_of_ours_has_its_place_in_the_rules() -> None:
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/*.py")} - {"tests", "build"}
    modules = {path.stem for path in ROOT.glob("*.py")}

    assert folders | modules <= LAYERS.keys() | WIRING


#: A file, and what it would import against the rules.
AGAINST = [
    ("config/settings", "import models.chat"),
    ("models/chat", "from providers import base"),
    ("providers/openai", "from billing.ledger import hold"),
    ("providers/openai", "import flask"),
    ("providers/openai", "import requests"),
    ("providers/openai", "from models import chat, database"),
    ("providers/openai", "from models.account import Account"),
    ("providers/openai", "from ..jobs import queues"),
    ("routing/routes", "import routing.routes, api.errors"),
    ("jobs/chat", "from flask import g"),
    ("jobs/chat", "def later():\n    import requests.adapters"),
    ("jobs/chat", "import os\nos.environ['PORT']"),
    ("jobs/chat", "from os import getenv"),
    ("jobs/chat", "import os as system\nsystem.getenv('PORT')"),
    ("api/chat", "import rq.job"),
    ("api/chat", "from ops import logging"),
    ("api/chat", "from providers import http"),
    ("web/pages", "import boto3"),
    ("cli/up", "from os import environ as env"),
]
#: And within them.
WITHIN = [
    ("config/settings", "import os\nos.environ.get('PORT')"),
    ("config/catalog", "from config import catalog_file"),
    ("providers/http", "import os, requests"),
    ("providers/openai", "from providers import http\nfrom models import chat, errors"),
    ("providers/openai", "from . import http"),
    ("jobs/worker_class", "from rq import Worker\nimport gevent"),
    ("api/chat", "from flask import g\nfrom jobs import queues\nfrom config.settings import x"),
    ("storage/s3", "import boto3\nfrom botocore.config import Config"),
    ("cli/up", "from jobs import queues\nimport rq, ops.logging"),
    ("app", "import api.chat, web.pages\nfrom flask import Flask"),
]


def test_an_import_against_the_rules_is_caught() -> None:
    assert [case for case in AGAINST if not list(forbidden(*case))] == []


def test_an_import_within_the_rules_is_not_caught() -> None:
    assert [case for case in WITHIN if list(forbidden(*case))] == []


def forbidden(module: str, source: str) -> Iterator[str]:
    """Yield what the file `module`, such as `jobs/chat`, imports against the rules, by name."""
    layer = module.split("/")[0]
    for name in _used(module, ast.parse(source)):
        rules = (
            _breaks_a_layer(layer, name),
            _passes_a_door(module, name),
            _has_state(layer, name),
        )
        if any(rules):
            yield name


def _breaks_a_layer(layer: str, name: str) -> bool:
    imported = name.split(".")[0]
    if layer in WIRING or imported not in LAYERS.keys() | WIRING:
        return False
    return imported not in {layer, "config", *LAYERS[layer]}


def _passes_a_door(module: str, name: str) -> bool:
    """Tell whether `name` belongs to a door that neither `module` nor its folder may use."""
    doors = (users for door, users in DOORS.items() if _is_in(name, door))
    return any(not users & {module, module.split("/")[0]} for users in doors)


def _has_state(layer: str, name: str) -> bool:
    return layer == "providers" and any(_is_in(name, other) for other in NOT_FOR_PROVIDERS)


def _is_in(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _used(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield the full name of everything imported, and of what is taken from `os`."""
    aliases = {"os"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            aliases |= {alias.asname for alias in node.names if alias.name == "os" and alias.asname}
        elif isinstance(node, ast.ImportFrom):
            package = _package(module, node)
            yield from (f"{package}.{alias.name}" for alias in node.names)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=taken) if name in aliases:
                yield f"os.{taken}"


def _package(module: str, node: ast.ImportFrom) -> str:
    """Return the package that `from … import` names, with the dots of a relative one resolved."""
    around = module.split("/")[: -node.level] if node.level else []
    return ".".join([*around, *([node.module] if node.module else [])])
