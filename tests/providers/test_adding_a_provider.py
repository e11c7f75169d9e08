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
    """The source with the page's newcomers in it."""
    folder = tmp_path_factory.mktemp("newcomer") / "likedo"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    (python,), (line,), tables = blocks("python"), blocks("diff"), blocks("toml")
    assert len(tables) == 4
    (folder / "providers" / "globex.py").write_text(python)
    insert(folder / "config" / "providers.py", line)
    with (folder / "config" / "catalog.toml").open("a") as file:
        file.write("\n" + "\n".join(tables))
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
        timeout=300,
        check=False,
    )


def test_a_newcomer_is_data_or_one_file_and_one_line(copy: Path) -> None:
    code = [path for path in copy.rglob("*.py") if path.is_file()]

    new = [path for path in code if not (ROOT / path.relative_to(copy)).exists()]
    changed = [path for path in code if path not in new and path.read_bytes() != original(path)]

    assert [str(path.relative_to(copy)) for path in new] == ["providers/globex.py"]
    assert [str(path.relative_to(copy)) for path in changed] == ["config/providers.py"]
    assert len(changed[0].read_text().splitlines()) == 1 + len(original(changed[0]).splitlines())


def original(path: Path) -> bytes:
    parts = path.parts
    return ROOT.joinpath(*parts[parts.index("likedo") + 1 :]).read_bytes()


def test_what_holds_for_every_provider_is_tested_of_the_newcomers_and_holds(copy: Path) -> None:
    contract, route = "tests/providers/contract", "tests/providers/test_every_route.py"
    others = ("tests/config", "tests/routing", "tests/test_imports.py")

    collected = pytest_in(copy, "--collect-only", contract).stdout.splitlines()
    done = pytest_in(copy, "-k", "acme or globex", contract, route, *others)

    of_each = [
        sum(name in test for test in collected)
        for name in ("openrouter", "acme", "globex", "ollama", "azure")
    ]
    assert min(of_each) == max(of_each) > 40
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 2 * of_each[0]
    assert "skipped" not in done.stdout


def pytest_in(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(copy, "pytest", "-q", "-p", "no:cacheprovider", *arguments)


Newcomers = tuple[str, Stack, Account]


@pytest.fixture
def newcomers(copy: Path, upstream: Upstream) -> Iterator[Newcomers]:
    """The product with the newcomers in it, and a caller."""
    urls = {f"{name}_base_url": f"{upstream.url}/{name}" for name in NAMES}
    keys = {"acme_api_key": "sk-acme", "azure_openai_api_key": "sk-azure"}
    made = Stack(code=copy, **urls, **keys)
    try:
        url = made.web()
        made.worker()
        yield f"{url}/v1", made, made.account()
    finally:
        made.close()


NAMES = ("acme", "ollama", "azure", "globex")


def test_the_newcomers_answer(newcomers: Newcomers, upstream: Upstream) -> None:
    url, made, account = newcomers

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

    status, _, refusal = stack.fetch(
        f"{url}/chat/completions", HELLO | {"model": "globex-1"}, key=account.key
    )
    assert status == 503
    assert "GLOBEX_API_KEY" in json.loads(refusal)["error"]["message"]

    providers = {each["name"]: each for each in made.run("providers", "--json")}
    assert [providers[name]["state"] for name in NAMES] == ["up", "up", "up", "off"]
    assert providers["ollama"]["base_url"] == f"{upstream.url}/ollama"


def test_a_server_without_keys_is_asked_without_one(
    newcomers: Newcomers, upstream: Upstream
) -> None:
    url, _, account = newcomers
    body = HELLO | {"model": "llama3.2", "stream": True, "seed": 1}

    status, headers, stream = stack.fetch(f"{url}/chat/completions", body, key=account.key)

    assert (status, headers["x-provider"]) == (200, "ollama")
    assert stream.endswith(b"data: [DONE]\n\n")
    (call,) = upstream.calls()
    assert call["path"] == "/ollama/chat/completions"
    assert "authorization" not in call["headers"]
    assert (call["body"]["model"], call["body"]["seed"]) == ("llama3.2", 1)


def test_an_azure_deployment_is_asked_in_its_own_way(
    newcomers: Newcomers, upstream: Upstream
) -> None:
    url, _, account = newcomers
    body = HELLO | {"model": "our-gpt-4.1", "max_tokens": 50}

    status, headers, _ = stack.fetch(f"{url}/chat/completions", body, key=account.key)

    assert (status, headers["x-provider"]) == (200, "azure")
    (call,) = upstream.calls()
    assert call["path"] == "/azure/deployments/our-gpt-4.1/chat/completions?api-version=2024-10-21"
    assert call["headers"]["api-key"] == "sk-azure"
    assert "authorization" not in call["headers"]
    assert call["body"]["max_completion_tokens"] == 50
    assert "max_tokens" not in call["body"]


@pytest.mark.parametrize("name", ["acme", "globex"])
def test_the_newcomers_variables_are_known_and_checked(copy: Path, name: str) -> None:
    variable = f"{name.upper()}_BASE_URL"
    without = run(copy, "cli", "models", "check")
    wrong = run(copy, "cli", "models", "check", **{variable: f"api.{name}.example"})

    assert f"without {name.upper()}_API_KEY no provider answers for {name}-" in without.stdout
    assert wrong.returncode == 1
    assert f"{variable}: must begin with http:// or https://" in wrong.stderr
