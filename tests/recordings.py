"""Recorded traffic of the providers, kept beside the repository; see its README.

Where the folder is not there, the tests over it are skipped and say so.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "recordings"
NONE = f"There are no recordings in {FOLDER.parent.name}/{FOLDER.name} beside the repository."


@dataclass(frozen=True)
class Recording:
    """One file: an exchange, or several in the order they happened."""

    provider: str
    case: str
    kinds: frozenset[str]
    model: str
    exchanges: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        return f"{self.provider}/{self.case}"


@cache
def load(provider: str) -> tuple[Recording, ...]:
    """Return every recording of `provider`, none where the folder is not there."""
    paths = sorted((FOLDER / provider).glob("*.json"))
    return tuple(_read(path) for path in paths)


def select(provider: str, *kinds: str) -> list[Recording]:
    """Return the recordings of `provider` that have all of `kinds`."""
    return [recording for recording in load(provider) if recording.kinds.issuperset(kinds)]


def some(found: list[Any]) -> list[Any]:
    """Return what was `found`; skip the test if that is nothing."""
    if not found:
        pytest.skip(NONE)
    return found


def parameters(found: list[Any], names: list[str]) -> list[Any]:
    """Return `found` for `pytest.mark.parametrize`; one skipped case if that is nothing."""
    if found:
        return [pytest.param(item, id=name) for item, name in zip(found, names, strict=True)]
    return [pytest.param(None, marks=pytest.mark.skip(reason=NONE), id="no-recordings")]


def _read(path: Path) -> Recording:
    found = json.loads(path.read_bytes())
    return Recording(
        found["provider"],
        found["case"],
        frozenset(found["kinds"]),
        found["model"],
        tuple(found["exchanges"]),
    )
