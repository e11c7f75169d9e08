"""The audit of dependencies, on a list of advisories of a test's own."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from tests.stack import ROOT, clean_environment

PINS = "# Pins.\nFlask_Thing==2.0.1\nredis==7.1\nrq==3.0.0\n"


def advisory(name: str, package: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    affected = {
        "package": {"ecosystem": "PyPI", "name": package},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
    }
    return {"id": name, "modified": "2026-11-30T00:00:00Z", "affected": [affected]} | more


#: Of these the first three are about what is pinned.
KNOWN = [
    advisory("V-range", "flask-thing", {"introduced": "0"}, {"fixed": "2.0.2"}, aliases=["CVE-1"]),
    advisory("V-last", "redis", {"introduced": "7"}, {"last_affected": "7.1.0"}),
    advisory("V-again", "rq", {"fixed": "2"}, {"introduced": "3.0rc1"}, {"introduced": "0"}),
    advisory("V-fixed", "rq", {"introduced": "0"}, {"fixed": "3.0.0"}),
    advisory("V-later", "redis", {"introduced": "7.2"}),
    advisory("V-other", "flask", {"introduced": "0"}),
    advisory("V-withdrawn", "rq", {"introduced": "0"}, withdrawn="2026-01-01T00:00:00Z"),
]


def audit(folder: Path, known: str) -> "subprocess.CompletedProcess[str]":
    (folder / "pins.txt").write_text(PINS)
    command = [sys.executable, "-m", "bench.audit", known, "--constraints", "pins.txt"]
    env = clean_environment() | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_what_is_known_against_a_pinned_version_is_told_and_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for one in KNOWN:
            archive.writestr(f"{one['id']}.json", json.dumps(one))

    done = audit(tmp_path, "all.zip")
    without = audit(tmp_path, "nowhere.zip")

    assert [line.split(":")[0] for line in done.stdout.splitlines()[:-1]] == [
        "flask-thing 2.0.1",
        "redis 7.1",
        "rq 3.0.0",
    ]
    assert "V-range, CVE-1" in done.stdout and "newest of 2026-11-30): 3 found" in done.stdout
    assert (done.returncode, without.returncode, without.stdout) == (1, 2, "")
    assert "make audit-deps ADVISORIES=" in without.stderr
