"""A provider as a table of the catalogue: what may stand in it, and what the environment adds."""

from pathlib import Path

import pytest

from config.catalog.load import load
from config.catalog.provider import PARAMETERS
from config.settings import InvalidSettings, ProviderAccess, Settings, settings
from providers.parameters import HARMLESS, NEEDS
from tests.config.catalog.test_lint import report, warnings
from tests.config.catalog.test_source import GOOD, message

ACME = """
[providers.acme]
base_url = "https://api.acme.example/v1/"
key_env = "ACME_KEY"

[upstream."acme:large"]

[models.acme-large]
owned_by = "acme"
routes = ["acme:large"]
"""
FIRST = GOOD.count("\n") + 2

WRONG = {
    "no address": ('base_url = "https://api.acme.example/v1/"', "", 0, "base_url: it is missing"),
    "an address without a scheme": ("https://", "", 1, "it must begin with http:// or https://"),
    "an address without a host": ("api.acme.example", "", 1, "and name a host"),
    "an address with a port that is none": ("example/", "example:x/", 1, "a URL that can be read"),
    "an address with a query": ("/v1/", "/v1?a=b", 1, "put the rest in `query`"),
    "an unknown key": ("key_env", "key", 2, "there is no such key"),
    "another name": ("key_env", "name", 2, "there is no such key"),
    "a name that is built in": ("[providers.acme]", "[providers.openai]", 0, "is built in"),
    "the sandbox's name": ("[providers.acme]", "[providers.sandbox]", 0, "is built in"),
    "a name with a capital": ("[providers.acme]", "[providers.Acme]", 0, "small letters"),
    "a long name": ("[providers.acme]", "[providers.acme_of_the_wild_west_]", 0, "1 to 20"),
    "a key in place of its variable": ("ACME_KEY", "sk-123", 2, "an environment variable"),
    "a secret of ours": ("ACME_KEY", "SECRET_KEY", 2, "SECRET_KEY is a setting of this service"),
    "a header that is none": (
        '"ACME_KEY"',
        '"A"\nkey_header = "a b"',
        3,
        "not a valid header name",
    ),
    "a header of two lines": (
        '"ACME_KEY"',
        '"A"\nheaders = { x = "a\\nb" }',
        3,
        "a character that no header has",
    ),
    "a path without a slash": ('"ACME_KEY"', '"A"\npath = "chat"', 3, "begin with a slash"),
    "a path with a query": ('"ACME_KEY"', '"A"\npath = "/chat?a=b"', 3, "put the rest in `query`"),
    "a date in the query": ('"ACME_KEY"', '"A"\nquery = { v = 2024-10-21 }', 3, "a string"),
    "an unknown word": ('"ACME_KEY"', '"A"\nunsupported = ["nn"]', 3, "'nn' is not one of audio"),
    "a help that there is not": ('"ACME_KEY"', '"A"\nemulates = ["n"]', 3, "be 'json_schema'"),
    "an answer changed in silence": ('"ACME_KEY"', '"A"\ndrops = ["seed"]', 3, "`unsupported`"),
    "another limit": ('"ACME_KEY"', '"A"\noutput_limit = "most"', 3, "it must be 'max_tokens'"),
    "an upstream of nobody's": ('"acme:large"]\n\n', '"acmee:large"]\n\n', 4, "providers acme, d"),
}


@pytest.mark.parametrize(("old", "new", "line", "reason"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_refused_with_its_line_and_reason(
    tmp_path: Path, old: str, new: str, line: int, reason: str
) -> None:
    assert old in ACME

    said = message(tmp_path, GOOD + ACME.replace(old, new, 1)).splitlines()

    assert any(f"line {FIRST + line}: " in told and reason in told for told in said), said


def test_a_mistake_in_its_table_is_not_told_of_its_models(tmp_path: Path) -> None:
    said = message(tmp_path, GOOD + ACME.replace("https://", ""))

    assert len(said.splitlines()) == 2


def test_a_provider_that_only_draws_is_not_data(tmp_path: Path) -> None:
    table = '\n[image_upstream."acme:draws"]\nsizes."1x1" = {}\nqualities.standard = {}\n'

    assert "with one of the providers openai, replicate" in message(tmp_path, GOOD + ACME + table)


def test_its_words_are_those_that_requests_are_checked_by() -> None:
    words = {*NEEDS.values()}

    assert NEEDS.keys() - words == PARAMETERS
    assert HARMLESS.isdisjoint(PARAMETERS | words)


def test_its_variables_are_read_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + ACME.replace("ACME_KEY", "ACME_TOKEN"))
    tables = load(path).providers
    found = Settings()

    found.read_providers(tables)
    assert (found.keys_of("acme"), found.base_url_of("acme")) == ([], "https://api.acme.example/v1")

    monkeypatch.setenv("ACME_TOKEN", "sk-1, sk-2,")
    monkeypatch.setenv("ACME_BASE_URL", "http://proxy/acme/")
    found.read_providers(tables)
    assert (found.keys_of("acme"), found.base_url_of("acme")) == (
        ["sk-1", "sk-2"],
        "http://proxy/acme",
    )

    monkeypatch.setenv("ACME_BASE_URL", "proxy")
    monkeypatch.setenv("ACME_TOKEN", "sk-s3cret-ä")
    with pytest.raises(InvalidSettings) as refused:
        found.read_providers(tables)
    assert "ACME_BASE_URL: must begin with http:// or https://" in str(refused.value)
    assert "ACME_TOKEN: holds a character that no key has" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_provider_that_takes_no_key_has_one_that_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + ACME.replace('key_env = "ACME_KEY"', ""))
    found = Settings()

    found.read_providers(load(path).providers)

    assert found.keys_of("acme") == [""]


def test_the_check_knows_the_providers_of_a_file_that_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "openai_api_key", "sk-test")
    # The check adds it to the settings; it is taken out again when this test has ended.
    monkeypatch.setitem(settings._providers, "acme", ProviderAccess("", []))

    without = report(tmp_path, ACME).notes
    monkeypatch.setenv("ACME_KEY", "sk-acme")
    with_one = report(tmp_path, ACME).notes
    alone = warnings(tmp_path, ACME[: ACME.index("[upstream")])

    assert [note.message for note in without] == [
        "without ACME_KEY no provider answers for acme-large"
    ]
    assert with_one == []
    assert alone == [
        f'line {FIRST + 1}: providers.acme: no upstream model belongs to it: [upstream."acme:…"]'
    ]
