"""Every environment variable, named once, read once and checked once."""

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationError,
    create_model,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from config import providers
from config.providers import key_variable

#: Platforms that run many machines with disks of their own, by the variable each one sets.
MULTI_MACHINE_PLATFORMS = {
    "DYNO": "Heroku",
    "RENDER": "Render",
    "RAILWAY_ENVIRONMENT": "Railway",
    "FLY_APP_NAME": "Fly.io",
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
}

MIB = 1024 * 1024


class InvalidSettings(SystemExit):
    """The environment cannot be used; the message says which line to change."""


def _address(url: str) -> str:
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url.rstrip("/")


def _keys(keys: str) -> str:
    # They have to fit into a header.
    if not (keys.isascii() and keys.isprintable()):
        raise ValueError("holds a character that no key has, such as the … of an example")
    return keys


Address = Annotated[str, AfterValidator(_address)]
Keys = Annotated[str, AfterValidator(_keys)]


class ProviderTable(Protocol):
    """A provider of the catalogue's own, as its table describes it."""

    @property
    def base_url(self) -> str: ...

    @property
    def key_env(self) -> str | None: ...


@dataclass(frozen=True)
class ProviderAccess:
    """Where a provider is, and the keys to ask it with."""

    base_url: str
    keys: list[str]


class Environment(BaseSettings):
    """Environment variables, typed. `.env` in the working directory is read first, and loses."""

    model_config = SettingsConfigDict(
        env_file=".env",
        # Some editors begin a file with a mark, which would be part of the first name.
        env_file_encoding="utf-8-sig",
        extra="ignore",
        env_ignore_empty=True,
    )


class Settings(Environment):
    """The product's own variables.

    What each provider has is beside this: its keys and `{name}_base_url`.
    """

    #: The providers of the catalogue's own, by name.
    _providers: dict[str, ProviderAccess] = PrivateAttr(default_factory=dict)

    var_dir: Path = Field(Path("var"), alias="LIKEDO_VAR")
    database_url: str = ""
    #: Connections one process keeps to PostgreSQL; greenlets that find none free wait their turn.
    database_pool_size: int = Field(10, ge=1, le=1000)
    redis_url: str = "redis://127.0.0.1:6379/0"

    port: int = Field(8000, ge=1, le=65535)
    public_url: Address = ""

    sandbox: bool = False

    s3_bucket: str = ""
    s3_endpoint_url: Address = ""
    s3_public_url: Address = ""
    #: Images are kept for so long. Links to a bucket that is not public hold for so long, too, but
    #: no longer than S3 lets them, which is seven days.
    media_ttl_days: float = Field(30, gt=0, le=36_500)
    media_url_seconds: int = Field(7 * 24 * 3600, ge=60, le=7 * 24 * 3600)

    web_concurrency: int = Field(2, ge=1, le=64)
    worker_concurrency: int = Field(1000, ge=1, le=100_000)
    image_concurrency: int = Field(4, ge=1, le=1000)

    sync_wait_seconds: float = Field(25, ge=0, allow_inf_nan=False)
    sync_relay: bool = True
    stream_commit_seconds: float = Field(8, ge=0, allow_inf_nan=False)
    job_timeout_seconds: float = Field(600, gt=0, le=86_400)

    max_queue_depth: int = Field(10_000, ge=1)
    max_queue_bytes: int = Field(64 * MIB, ge=1)
    stream_log_bytes: int = Field(64 * MIB, ge=1)
    max_body_bytes: int = Field(20 * MIB, ge=1)

    admin_token: str = ""
    secret_key: str = ""
    catalog: Path = Path(__file__).with_name("catalog.toml")

    edge_safe_errors: bool = False
    cors_origins: str = "*"
    webhook_allow_private: bool = False
    allow_local_state: bool = False
    support_url: str = ""
    support_email: str = ""

    log_level: str = "INFO"

    @field_validator("database_url")
    @classmethod
    def _name_the_driver(cls, url: str) -> str:
        """Heroku and others say `postgres://`; SQLAlchemy wants the driver named."""
        for prefix in ("postgres://", "postgresql://"):
            if url.startswith(prefix):
                url = "postgresql+psycopg://" + url.removeprefix(prefix)
        if url and not url.startswith(("postgresql+psycopg://", "sqlite:///")):
            raise ValueError("must begin with postgresql:// or sqlite:///")
        if url:
            _check_sql_url(url)
        return url

    @field_validator("redis_url")
    @classmethod
    def _know_the_scheme(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        _check_redis_url(url)
        return url

    @field_validator("log_level")
    @classmethod
    def _know_the_level(cls, level: str) -> str:
        if level.upper() not in logging.getLevelNamesMapping():
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return level.upper()

    @property
    def sql_url(self) -> str:
        """The database's SQLAlchemy URL: `DATABASE_URL`, or SQLite under the state folder."""
        return self.database_url or f"sqlite:///{self.var_dir.resolve() / 'likedo.db'}"

    @property
    def uses_sqlite(self) -> bool:
        return self.sql_url.startswith("sqlite")

    def keys_of(self, provider: str) -> list[str]:
        """Return the keys an operator gave for `provider`, several being comma-separated.

        A provider that takes no key has one, which is empty.
        """
        if own := self._providers.get(provider):
            return own.keys
        return _split(getattr(self, key_variable(provider).lower(), ""))

    def base_url_of(self, provider: str) -> str:
        """Return where `provider` is; every call to it starts with this."""
        if own := self._providers.get(provider):
            return own.base_url
        return str(getattr(self, f"{provider}_base_url"))

    def read_providers(self, tables: Mapping[str, ProviderTable]) -> None:
        """Read the variables of the catalogue's own providers; raise `InvalidSettings`."""
        self._providers.update(_accesses(tables) if tables else {})

    def local_state_problem(self) -> str | None:
        """Say what may not live on this machine's disk, and the line to set; None where all may."""
        platform = next(
            (MULTI_MACHINE_PLATFORMS[v] for v in MULTI_MACHINE_PLATFORMS if v in os.environ), None
        )
        if platform is None or self.allow_local_state:
            return None
        if self.uses_sqlite:
            return (
                f"{platform} runs processes on machines with disks of their own, and SQLite is one "
                "file on one disk: set DATABASE_URL=postgresql://… (ALLOW_LOCAL_STATE=1 overrides)."
            )
        if not self.s3_bucket:
            return (
                f"{platform} runs processes on machines with disks of their own, and local files "
                "stay on one: set S3_BUCKET=… (ALLOW_LOCAL_STATE=1 overrides)."
            )
        return None


def _check_sql_url(url: str) -> None:
    from sqlalchemy import exc, make_url  # Only who names a database waits for its import.

    try:
        make_url(url)
    except (exc.ArgumentError, ValueError):
        raise ValueError("is not a URL that can be read") from None


def _check_redis_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        number = parts.path.strip("/")
        readable = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("is not a URL that can be read") from None
    # redis-py takes another word for database 0, where nobody looks for it.
    is_number = not number or number.isdecimal() or parts.scheme == "unix"
    if not (readable and is_number):
        raise ValueError("must end with a port and the number of a database, as in :6379/0")


def environment() -> dict[str, str]:
    """Return a copy of the environment, to start a child process with."""
    return dict(os.environ)


def _explain(error: ValidationError, secrets: Collection[str]) -> str:
    lines = [_explain_one(problem, secrets) for problem in error.errors()]
    return "likedo: the environment cannot be used:\n" + "\n".join(f"  {line}" for line in lines)


def _explain_one(problem: Any, secrets: Collection[str]) -> str:
    name = str(problem["loc"][0]).upper() if problem["loc"] else "?"
    text = problem["msg"].removeprefix("Value error, ")
    said = f"{name}: {text[0].lower()}{text[1:]}"
    if name in secrets:
        return said
    return f"{said} (it is {_shown(str(problem['input']))!r})"


def _shown(value: str) -> str:
    """Return the beginning of `value`; logs keep it, so no password of a URL is in it."""
    scheme, slashes, rest = value.partition("://")
    credentials, at, place = rest.rpartition("@")
    if at:
        value = f"{scheme}{slashes}{credentials.partition(':')[0]}:***@{place}"
    elif not slashes:
        # Without a scheme nobody can tell what of it is a password.
        value = value.rpartition("@")[2]
    return value[:80]


def _with_providers() -> type[Settings]:
    names = providers.BASE_URLS
    fields: dict[str, Any] = {key_variable(name).lower(): (Keys, "") for name in names}
    fields |= {f"{name}_base_url": (Address, url) for name, url in names.items()}
    return create_model("Settings", __base__=Settings, **fields)


def _accesses(tables: Mapping[str, ProviderTable]) -> dict[str, ProviderAccess]:
    """Return what the environment says of the catalogue's own providers."""
    secrets = {table.key_env for table in tables.values() if table.key_env}
    fields: dict[str, Any] = {f"keys_{name}": (Keys, Field("", alias=name)) for name in secrets}
    for name, table in tables.items():
        alias = f"{name.upper()}_BASE_URL"
        fields[f"url_{name}"] = (Address, Field(table.base_url, alias=alias))
    found = _read(create_model("Providers", __base__=Environment, **fields), secrets)
    return {
        name: ProviderAccess(
            getattr(found, f"url_{name}"),
            _split(getattr(found, f"keys_{table.key_env}")) if table.key_env else [""],
        )
        for name, table in tables.items()
    }


def _split(keys: str) -> list[str]:
    return [key.strip() for key in keys.split(",") if key.strip()]


E = TypeVar("E", bound=Environment)


def _read(environment: type[E], secrets: Collection[str]) -> E:
    """Read the environment; raise `InvalidSettings` naming every variable that cannot be used.

    The values of `secrets` are not shown.
    """
    try:
        return environment()
    except ValidationError as error:
        raise InvalidSettings(_explain(error, secrets)) from None
    except UnicodeDecodeError:
        raise InvalidSettings("likedo: .env cannot be read: save it as UTF-8.") from None
    except OSError as error:
        raise InvalidSettings(f"likedo: .env cannot be read: {error.strerror}.") from None


def load() -> Settings:
    """Read the environment; raise `InvalidSettings` naming every variable that cannot be used."""
    return _read(_with_providers(), {key_variable(name) for name in providers.BASE_URLS})


settings = load()


def is_setting(variable: str) -> bool:
    """Tell whether an environment variable is the product's own, and no provider's key."""
    fields = Settings.model_fields
    return variable in {(field.alias or name).upper() for name, field in fields.items()}
