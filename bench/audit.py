"""`make audit-deps`: do the pinned packages have known vulnerabilities? Asks no network.

It compares `constraints.txt` with a list of advisories in the OSV format, which is downloaded
beforehand: a zip, or a folder, of one JSON file each (https://ossf.github.io/osv-schema/). It exits
with 1 if a pinned version is affected, and with 2 if there is no list that can be read.
"""

import argparse
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
#: Where OSV publishes the list for Python's packages.
SOURCE = "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip"


@dataclass(frozen=True)
class Finding:
    """An advisory that a pinned version is affected by."""

    package: str
    version: str
    advisory: dict[str, Any]

    def __str__(self) -> str:
        names = ", ".join([self.advisory["id"], *self.advisory.get("aliases", [])])
        summary = self.advisory.get("summary") or self.advisory.get("details", "")[:200]
        return f"{self.package} {self.version}: {names}: {' '.join(summary.split())}"


def pins(constraints: str) -> dict[str, str]:
    """Return the versions that a file of constraints pins, by the package's canonical name."""
    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    parsed = [Requirement(line) for line in lines if line]
    return {canonicalize_name(one.name): next(iter(one.specifier)).version for one in parsed}


def advisories(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the advisories of a zip or folder; raise `OSError`, `ValueError` or `BadZipFile`."""
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield json.loads(file.read_bytes())
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                yield json.loads(archive.read(name))


def find(pinned: dict[str, str], known: Iterable[dict[str, Any]]) -> list[Finding]:
    """Return what is known against the pinned versions; withdrawn advisories do not count."""
    return [
        Finding(name, pinned[name], advisory)
        for advisory in known
        if not advisory.get("withdrawn")
        for name in sorted(_affected(pinned, advisory))
    ]


def _affected(pinned: dict[str, str], advisory: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for affected in advisory.get("affected", []):
        package = affected.get("package", {})
        name = canonicalize_name(package.get("name", ""))
        if package.get("ecosystem") == "PyPI" and name in pinned:
            ranges = [one for one in affected.get("ranges", []) if one["type"] == "ECOSYSTEM"]
            version = pinned[name]
            if _is_listed(version, affected.get("versions", [])) or any(
                _is_within(Version(version), one["events"]) for one in ranges
            ):
                found.add(name)
    return found


def _is_listed(version: str, versions: list[str]) -> bool:
    return version in versions or Version(version) in map(_parse, versions)


def _is_within(version: Version, events: list[dict[str, str]]) -> bool:
    """Tell whether a version is in a range: from `introduced` on, until `fixed`."""
    is_in = False
    for what, at in sorted((_when(event) for event in events), key=lambda event: event[1]):
        if version > at or (version == at and what != "last_affected"):
            is_in = what == "introduced"
    return is_in


def _when(event: dict[str, str]) -> tuple[str, Version]:
    ((what, version),) = event.items()
    return what, _parse(version)


def _parse(version: str) -> Version:
    """Return a version; one that is none of Python's comes before all others."""
    try:
        return Version(version)
    except InvalidVersion:
        return Version("0.dev0")


def main() -> int:
    """Print what is found, and return the exit status."""
    parser = argparse.ArgumentParser(prog="make audit-deps", description=__doc__)
    parser.add_argument("list", type=Path)
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    arguments = parser.parse_args()
    pinned = pins(arguments.constraints.read_text(encoding="utf-8"))
    try:
        known = list(advisories(arguments.list))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        print(
            f"{arguments.list} is no list of advisories ({error}). Download one, such as\n"
            f"{SOURCE},\nand name it: make audit-deps ADVISORIES=all.zip",
            file=sys.stderr,
        )
        return 2
    found = find(pinned, known)
    print(*map(str, found), sep="\n", end="\n" if found else "")
    newest = max((advisory.get("modified", "") for advisory in known), default="")
    print(
        f"{len(pinned)} packages, {len(known)} advisories "
        f"(the newest of {newest[:10] or 'never'}): {len(found)} found."
    )
    return 1 if found or not known else 0


if __name__ == "__main__":
    sys.exit(main())
