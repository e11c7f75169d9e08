"""Every command pays for what it imports, so the cheap ones import little.

Modules are counted and seconds are not: `python -m bench.startup` measures those.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cli.jobs import KIND_NAMES, STATUSES
from cli.main import COMMANDS
from jobs.kinds import KINDS
from models.job import Status
from tests.cli.test_main import run
from tests.stack import ROOT, clean_environment
from tests.test_imports import MODULES, _used

#: None of these is needed to answer from a table.
HEAVY = {
    *("alembic", "boto3", "flask", "PIL", "redis", "requests", "rich", "rq", "structlog"),
    *("api", "billing", "config.catalog.load", "jobs", "providers", "routing", "storage"),
    *("access.accounts", "access.keys", "access.rate_limit", "models.account", "models.job"),
}
#: These, too, are not needed to print help.
PACKAGES = {"access", "config.settings", "database", "gevent", "orjson", "pydantic", "sqlalchemy"}
#: The standard library's own, which few commands need.
SLOW_STANDARD = {"asyncio", "http.client"}


def loaded_by(folder: Path, *arguments: str) -> set[str]:
    """Run `likedo` in a process of its own and return the names of the modules it loaded."""
    code = (
        "import sys\n"
        "from cli.main import main\n"
        "main(sys.argv[1:], prog_name='likedo', standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def test_the_version_is_printed_without_loading_anything_heavy(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout == "likedo 0.1.0\n"
    assert loaded_by(tmp_path, "--version") & (HEAVY | PACKAGES | SLOW_STANDARD) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_nothing_heavy(tmp_path: Path, name: str) -> None:
    # Errors and JSON are cheap, and most commands' options need them.
    assert loaded_by(tmp_path, name, "--help") & (HEAVY | PACKAGES - {"orjson"}) == set()


def test_a_listing_loads_what_reads_a_table(tmp_path: Path) -> None:
    assert run(tmp_path, "db", "upgrade").returncode == 0

    keys = loaded_by(tmp_path, "keys", "list")
    accounts = loaded_by(tmp_path, "accounts", "list")

    assert keys & HEAVY == set()
    # It warns of accounts whose plan the catalogue does not have.
    assert accounts & HEAVY == {"config.catalog.load"}
    assert "access.listings" in keys & accounts


def test_the_choices_of_the_help_are_those_of_the_product() -> None:
    assert list(STATUSES) == [str(status) for status in Status]
    assert list(KIND_NAMES) == list(KINDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_loads_what_logs_logs_to_standard_error(name: str) -> None:
    source = MODULES[f"cli/{name}"].read_text(encoding="utf-8")

    assert ("logs.to_standard_error()" in source) == reaches(f"cli/{name}", "structlog")


def reaches(module: str, package: str) -> bool:
    """Tell whether a file imports `package`, itself or through other files of ours."""
    seen, pending = set[str](), {module}
    while pending:
        seen |= pending
        names: set[str] = set()
        for found in pending - {"cli/terminal/logs"}:
            tree = ast.parse(MODULES[found].read_text(encoding="utf-8"))
            names |= {name.replace(".", "/") for name in _used(found, tree)}
        if any(name.split("/")[0] == package for name in names):
            return True
        # Importing `a.b.c` runs the packages `a` and `a.b`, too.
        files = {str(parent) for name in names for parent in [Path(name), *Path(name).parents]}
        pending = (files & MODULES.keys()) - seen
    return False
