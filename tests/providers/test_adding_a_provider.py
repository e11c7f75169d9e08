"""What `docs/adding-a-provider.md` says, done to a copy of the source: it is all there is to do."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import stack
from tests.stack import Account, Stack
from tests.upstream import COMPLETION, Upstream

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding-a-provider.md"
NOT_COPIED = (".*", "var", "build", "node_modules", "__pycache__", "*.egg-info")

HELLO = {"model": "acme-large", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source with the page's newcomer in it."""
    folder = tmp_path_factory.mktemp("newcomer") / "likedo"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    python, line, catalogue = blocks("python"), blocks("diff"), blocks("toml")
    assert [len(found) for found in (python, line, catalogue)] == [1, 1, 1]
    (folder / "providers" / "acme.py").write_text(python[0])
    insert(folder / "config" / "providers.py", line[0])
    with (folder / "config" / "catalog.toml").open("a") as file:
        file.write("\n" + catalogue[0])
    return folder


def blocks(language: str) -> list[str]:
    """Return the page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def insert(path: Path, diff: str) -> None:
    """Put the one line that a diff adds behind the one line that it shows."""
    before, added = diff.splitlines()
    assert before[0] == " "
    assert added[0] == "+"
    text = path.read_text()
    assert text.count(before[1:] + "\n") == 1
    path.write_text(text.replace(before[1:] + "\n", f"{before[1:]}\n{added[1:]}\n"))


def run(copy: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=copy,
        env=stack.clean_environment() | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_newcomer_is_one_file_and_one_line(copy: Path) -> None:
    code = [path for path in copy.rglob("*.py") if path.is_file()]

    new = [path for path in code if not (ROOT / path.relative_to(copy)).exists()]
    changed = [path for path in code if path not in new and path.read_bytes() != original(path)]

    assert [str(path.relative_to(copy)) for path in new] == ["providers/acme.py"]
    assert [str(path.relative_to(copy)) for path in changed] == ["config/providers.py"]
    assert len(changed[0].read_text().splitlines()) == 1 + len(original(changed[0]).splitlines())


def original(path: Path) -> bytes:
    parts = path.parts
    return ROOT.joinpath(*parts[parts.index("likedo") + 1 :]).read_bytes()


def test_what_holds_for_every_provider_is_tested_of_the_newcomer_and_holds(copy: Path) -> None:
    contract, route = "tests/providers/test_contract.py", "tests/providers/test_every_route.py"
    others = ("tests/config", "tests/routing", "tests/test_imports.py")

    collected = pytest_in(copy, "--collect-only", contract).stdout.splitlines()
    done = pytest_in(copy, "-k", "acme", contract, route, *others)

    of_the_newcomer = sum("acme" in test for test in collected)
    assert of_the_newcomer == sum("openrouter" in test for test in collected) > 100
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > of_the_newcomer + 6
    assert "skipped" not in done.stdout


def pytest_in(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(copy, "pytest", "-q", "-p", "no:cacheprovider", *arguments)


@pytest.fixture
def newcomer(
    copy: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Account]]:
    """The product with the newcomer in it, and a caller."""
    monkeypatch.setattr(stack, "ROOT", copy)
    made = Stack(acme_api_key="sk-acme", acme_base_url=f"{upstream.url}/acme")
    try:
        url = made.web()
        made.worker()
        yield f"{url}/v1", made.account()
    finally:
        made.close()


def test_the_newcomer_answers(newcomer: tuple[str, Account], upstream: Upstream) -> None:
    url, account = newcomer

    status, headers, body = stack.fetch(
        f"{url}/chat/completions", HELLO | {"provider": "acme", "n": 1}, key=account.key
    )

    answer = json.loads(body)
    assert status == 200, answer
    assert headers["x-provider"] == "acme"
    assert answer["model"] == "acme-large"
    assert answer["choices"] == COMPLETION["choices"]
    assert answer["credits_consumed"] == 1
    (call,) = upstream.calls()
    assert call["path"] == "/acme/chat/completions"
    assert call["headers"]["authorization"] == "Bearer sk-acme"
    assert call["headers"]["x-client"] == "LikeDo AI API"
    assert call["body"]["model"] == "acme-large-1"

    _, _, shown = stack.fetch(f"{url}/models/acme-large", key=account.key)
    assert json.loads(shown)["providers"] == ["acme"]
    assert json.loads(shown)["takes"] == ["sampling", "stop", "tools", "json_object"]

    status, _, refusal = stack.fetch(f"{url}/chat/completions", HELLO | {"n": 2}, key=account.key)
    assert (status, json.loads(refusal)["error"]["param"]) == (400, "n")


def test_the_newcomers_variables_are_known_and_checked(copy: Path) -> None:
    without = run(copy, "cli", "models", "check")
    wrong = run(copy, "cli", "models", "check", ACME_BASE_URL="api.acme.example")

    assert "without ACME_API_KEY nobody answers for acme-large" in without.stdout
    assert wrong.returncode == 1
    assert "ACME_BASE_URL: must begin with http:// or https://" in wrong.stderr
