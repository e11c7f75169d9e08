"""What `make structure` reads out of code and traces."""

import ast
from pathlib import Path

from bench import structure
from bench.structure import Event


def test_circles_are_found_whatever_way_files_import_each_other() -> None:
    code = {
        "app.py": "from api import chat",
        "api/__init__.py": "",
        "api/chat.py": "def later():\n    from . import jobs",
        "api/jobs.py": "import api.chat",
        "api/models.py": "from api.chat import create",
    }
    trees = {Path(path): ast.parse(text) for path, text in code.items()}

    assert structure.circles(trees) == [["api/chat.py", "api/jobs.py"]]


def test_a_function_is_as_long_as_its_lines() -> None:
    tree = ast.parse("@cache\ndef one():\n    def inner(): pass\n\n    return inner\n")

    assert sorted(structure.function_lengths(tree)) == [1, 4]


def test_background_and_what_is_not_seen_each_time_is_left_out() -> None:
    def event(stack: str, called: str, caller: str, outside: str) -> Event:
        return Event(0.0, ("1", stack), called, caller, outside)

    create = event("a", "api/chat.py:create", "-", "-")
    look_up = event("b", "models/job.py:look_up", "api/chat.py:create", "api/chat.py:create")
    end = event("c", "jobs/end.py:end", "models/job.py:look_up", "api/chat.py:create")
    renew = event("d", "jobs/leases.py:renew", "jobs/leases.py:keep", "jobs/leases.py:keep")
    once = event("e", "ops/logs.py:write", "api/chat.py:create", "api/chat.py:create")
    repetitions = [[create, look_up, end, end, renew, once], [create, look_up, end, end, renew]]

    assert structure.count(repetitions, {renew.stack}) == {
        "all": {"files": 3, "switches": 3, "pairs": 2},
        "without_stored": {"files": 2, "switches": 2, "pairs": 1},
    }
