"""Who may import whom: the rooms of the house, and the few doors to the outside."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Every room may import these.
GROUND = {"config", "models", "ops"}
#: What each room may import beside itself and, but for those of the ground, the ground.
ROOMS: dict[str, set[str]] = {
    "ops": {"config"},
    "config": set(),
    "models": {"config", "ops"},
    "net": set(),
    "tokens": set(),
    "database": set(),
    "billing": {"database"},
    "access": {"database"},
    "storage": {"database"},
    "providers": {"net", "tokens"},
    "routing": {"net", "tokens", "providers"},
    "jobs": {
        *("net", "tokens", "providers", "routing"),
        *("billing", "access", "storage", "database"),
    },
    "api": {"jobs", "routing", "billing", "access", "storage", "database"},
}
#: These put the rooms together, so they may import any of them. No room imports these.
WIRING = {"app", "worker", "cli", "web", "bench", "migrations"}

#: Within `jobs`: what each folder or file may import of the others.
JOBS: dict[str, set[str]] = {
    "kinds": set(),
    "streaming": {"kinds"},
    "lifecycle": {"streaming", "kinds"},
    "maintenance": {"lifecycle", "streaming", "kinds"},
    "following": {"maintenance", "lifecycle", "streaming"},
    "worker": {"maintenance", "lifecycle", "streaming", "kinds"},
    "webhook": {"worker", "lifecycle", "streaming"},
    "batch": {"worker", "lifecycle", "streaming", "kinds"},
    "chat": {"worker", "lifecycle", "streaming", "kinds"},
    "image": {"worker", "lifecycle", "streaming", "kinds"},
}
#: Within `api`: the nouns, which are not listed, may import all of these.
API: dict[str, set[str]] = {
    "server": set(),
    "errors": {"server"},
    "request": {"server", "errors"},
    "response": {"request", "server", "errors"},
    "submit": {"request", "response", "server", "errors"},
}

#: A module of others, and the files or folders of ours that may import it.
DOORS = {
    "flask": {"app", "api", "web", "bench"},
    "rq": {"jobs", "worker", "cli", "bench"},
    "requests": {"net", "bench"},
    "urllib3": {"net"},
    "boto3": {"storage/s3"},
    "botocore": {"storage/s3"},
    "gunicorn": {"api", "config/gunicorn", "bench"},
    "PIL": {"jobs/image/normalize", "providers/sandbox/image"},
    "os.environ": {"config/settings"},
    "os.environb": {"config/settings"},
    "os.getenv": {"config/settings"},
    "os.putenv": {"config/settings"},
}
#: Rooms that hold no state: of the models they know the spoken ones, and no database.
STATELESS = {"net", "tokens", "providers", "models/errors", "models/chat", "models/image"}
STATE = {
    "sqlmodel",
    "sqlalchemy",
    "redis",
    "models.account",
    "models.batch",
    "models.credit",
    "models.file",
    "models.job",
    "models.lease",
    "models.media",
    "models.provider_call",
    "models.webhook",
}

#: What a web process never loads: what runs jobs, and what only that needs.
WORKER_ONLY = ("jobs.chat", "jobs.image", "jobs.worker", "jobs.batch.runner", "PIL")

MODULES = {
    str(path.relative_to(ROOT).with_suffix("")).removesuffix("/__init__"): path
    for top in sorted(ROOMS.keys() | WIRING)
    for path in [ROOT / f"{top}.py", *(ROOT / top).rglob("*.py")]
    if path.is_file()
}


def test_every_file_imports_only_what_it_may() -> None:
    found = {
        module: list(forbidden(module, path.read_text(encoding="utf-8")))
        for module, path in MODULES.items()
    }

    assert {module: names for module, names in found.items() if names} == {}


def test_no_files_and_no_folders_import_each_other_in_a_circle() -> None:
    files = {module: _ours(module) - {module} for module in MODULES}

    assert circles(files) == []
    for depth in (1, 2):
        folders: dict[str, set[str]] = {}
        for module, imported in files.items():
            folder = _folder(module, depth)
            folders.setdefault(folder, set()).update(_folder(name, depth) for name in imported)
        assert circles({folder: names - {folder} for folder, names in folders.items()}) == []


def test_the_web_process_loads_nothing_that_only_runs_jobs() -> None:
    files = {module: _ours(module) for module in MODULES}
    reached, new = set[str](), {"app"}
    while new:
        reached |= new
        new = set().union(*(files[module] for module in new)) - reached

    loaded = {module.replace("/", ".") for module in reached}
    assert [name for name in sorted(loaded) if name.startswith(WORKER_ONLY)] == []


def test_every_folder_of_ours_has_its_place_in_the_rules() -> None:
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/*.py")} - {"tests", "build"}
    modules = {path.stem for path in ROOT.glob("*.py")}

    assert folders | modules <= ROOMS.keys() | WIRING


AGAINST_THE_RULES = [
    ("config/settings", "import models.chat"),
    ("models/chat", "from providers import base"),
    ("providers/openai", "from billing.ledger import hold"),
    ("providers/openai", "import flask"),
    ("providers/openai", "import requests"),
    ("providers/openai", "from models import chat, job"),
    ("providers/openai", "from models.account import Account"),
    ("providers/openai", "from ..jobs import chat"),
    ("routing/candidates", "import routing.attempts, api.errors"),
    ("jobs/chat", "from flask import g"),
    ("jobs/chat", "def later():\n    import requests.adapters"),
    ("jobs/chat", "import os\nos.environ['PORT']"),
    ("jobs/chat", "from os import getenv"),
    ("jobs/chat", "import os as system\nsystem.getenv('PORT')"),
    ("jobs/streaming/log", "from jobs.lifecycle import store"),
    ("jobs/worker/lease", "from jobs import chat"),
    ("api/chat", "import rq.job"),
    ("api/chat", "from net import http"),
    ("api/request/sdk", "from api.response import answer"),
    ("web/pages", "import boto3"),
    ("cli/up", "from os import environ as env"),
]


def test_an_import_against_the_rules_is_caught() -> None:
    assert [case for case in AGAINST_THE_RULES if not list(forbidden(*case))] == []


WITHIN_THE_RULES = [
    ("config/settings", "import os\nos.environ.get('PORT')"),
    ("net/http", "import os, requests"),
    ("providers/openai", "from net import http\nfrom models import chat, errors"),
    ("providers/openai", "from . import base"),
    ("jobs/worker/greenlet_worker", "from rq import Worker\nimport gevent"),
    ("api/chat", "from flask import g\nfrom jobs.lifecycle import queue\nimport ops.logs"),
    ("api/chat", "from api import submit\nfrom api.response import answer"),
    ("storage/s3", "import boto3\nfrom botocore.config import Config"),
    ("cli/up", "from jobs.lifecycle import queue\nimport rq, ops.logs"),
    ("app", "import api.chat, web.pages\nfrom flask import Flask"),
]


def test_an_import_within_the_rules_is_not_caught() -> None:
    assert [case for case in WITHIN_THE_RULES if list(forbidden(*case))] == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def forbidden(module: str, source: str) -> Iterator[str]:
    """Yield what the file `module`, such as `jobs/chat`, imports against the rules, by name."""
    for name in _used(module, ast.parse(source)):
        rules = (
            _leaves_its_room(module, name),
            _breaks_an_order(module, name, "jobs", JOBS),
            _breaks_an_order(module, name, "api", API),
            _passes_a_door(module, name),
            _has_state(module, name),
        )
        if any(rules):
            yield name


def _leaves_its_room(module: str, name: str) -> bool:
    room, imported = module.split("/")[0], name.split(".")[0]
    if room in WIRING or imported not in ROOMS.keys() | WIRING or imported == room:
        return False
    return imported not in ROOMS[room] | (set() if room in GROUND else GROUND)


def _breaks_an_order(module: str, name: str, room: str, order: Mapping[str, set[str]]) -> bool:
    """Tell whether a file of `room` imports what stands above it there."""
    here, there = module.split("/"), name.split(".")
    if here[0] != room or there[0] != room or len(here) < 2 or len(there) < 2:
        return False
    if here[1] == there[1] or here[1] not in order:
        return False
    return there[1] not in order[here[1]]


def _passes_a_door(module: str, name: str) -> bool:
    """Tell whether `name` belongs to a door that neither `module` nor its folder may use."""
    doors = (users for door, users in DOORS.items() if _is_in(name, door))
    return any(not users & {module, module.split("/")[0]} for users in doors)


def _has_state(module: str, name: str) -> bool:
    is_stateless = bool(STATELESS & {module, module.split("/")[0]})
    return is_stateless and any(_is_in(name, other) for other in STATE)


def _is_in(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _ours(module: str) -> set[str]:
    """Return the files that the file `module` imports, as modules."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = (name.replace(".", "/") for name in _used(module, tree))
    found = (name if name in MODULES else name.rpartition("/")[0] for name in names)
    return {name for name in found if name in MODULES}


def _folder(module: str, depth: int) -> str:
    return "/".join(module.split("/")[:depth])


def circles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups that import each other, directly or not (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in imports.get(name, ()):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in imports:
        if name not in index:
            visit(name)
    return found


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
