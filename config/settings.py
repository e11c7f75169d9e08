"""All environment variables, each named, read and checked once."""

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationError,
    create_model,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from config import networks, providers, setting_checks
from config.providers import key_variable

#: Platforms whose machines have a disk each, by a variable that each platform sets.
MULTI_MACHINE_PLATFORMS = {
    "DYNO": "Heroku",
    "RENDER": "Render",
    "RAILWAY_ENVIRONMENT": "Railway",
    "FLY_APP_NAME": "Fly.io",
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
}

MIB = 1024 * 1024


class InvalidSettings(SystemExit):
    """The environment is invalid; the message says what to change."""


Address = Annotated[str, AfterValidator(setting_checks.address)]
Keys = Annotated[str, AfterValidator(setting_checks.keys)]


class ProviderTable(Protocol):
    """A table of the catalogue that describes a provider."""

    @property
    def base_url(self) -> str: ...

    @property
    def key_env(self) -> str | None: ...


@dataclass(frozen=True)
class ProviderAccess:
    """The base URL of a provider, and the keys to call it with."""

    base_url: str
    keys: list[str]


class Environment(BaseSettings):
    """Typed environment variables. They override those in `.env` in the working directory."""

    model_config = SettingsConfigDict(
        env_file=".env",
        # Some editors begin a file with a byte order mark, which would be part of the first name.
        env_file_encoding="utf-8-sig",
        extra="ignore",
        env_ignore_empty=True,
    )


class Settings(Environment):
    """The product's own variables.

    `load` adds two for each built-in provider: its keys, and `{name}_base_url`.
    """

    #: The providers that the catalogue describes, by name.
    _providers: dict[str, ProviderAccess] = PrivateAttr(default_factory=dict)

    var_dir: Path = Field(Path("var"), alias="LIKEDO_VAR")
    database_url: str = ""
    #: Connections of one process to PostgreSQL; further greenlets wait for a free one.
    database_pool_size: int = Field(10, ge=1, le=1000)
    redis_url: str = "redis://127.0.0.1:6379/0"

    #: Empty: all of the machine's addresses, or with `likedo up` the loopback.
    host: str = Field("", pattern=r"^[0-9A-Za-z.:_-]*$")
    port: int = Field(8000, ge=1, le=65535)
    public_url: Address = ""
    trusted_proxies: Annotated[str, AfterValidator(networks.check)] = ""

    sandbox: bool = False

    s3_bucket: str = ""
    s3_endpoint_url: Address = ""
    s3_public_url: Address = ""
    #: How long images are kept. Links to a private bucket are valid for as long, but at most for
    #: the seven days that S3 allows.
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
    #: A body arrives with at least so many bytes a second over any `body_rate_seconds` after the
    #: first `body_start_seconds`, and whole within `max_body_seconds` and the time that it takes
    #: at twice that rate; a file within `max_upload_seconds`.
    min_body_rate: int = Field(8192, ge=1)
    body_start_seconds: float = Field(10, ge=0, le=3600)
    body_rate_seconds: float = Field(30, gt=0, le=3600)
    max_body_seconds: float = Field(60, gt=0, le=86_400)
    max_upload_seconds: float = Field(3600, gt=0, le=86_400)
    #: Bodies of one account that may be arriving at a time, and the bytes on disk of those of all,
    #: in each web process.
    max_open_bodies: int = Field(8, ge=1)
    max_spool_bytes: int = Field(256 * MIB, ge=1)
    #: Images that callers name by URL, for providers that accept only bytes: how many are fetched
    #: for one request, and their bytes in one request and in one worker.
    image_urls_per_request: int = Field(16, ge=1, le=1000)
    image_url_request_bytes: int = Field(20 * MIB, ge=1)
    image_url_bytes: int = Field(96 * MIB, ge=1)

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
    #: What keeps the event loop of a process for more of its CPU time is logged.
    loop_hold_milliseconds: float = Field(50, gt=0)

    @field_validator("database_url")
    @classmethod
    def _add_driver(cls, url: str) -> str:
        """Name the driver, which SQLAlchemy needs and the URLs of Heroku and others lack."""
        for prefix in ("postgres://", "postgresql://"):
            if url.startswith(prefix):
                url = "postgresql+psycopg://" + url.removeprefix(prefix)
        if url and not url.startswith(("postgresql+psycopg://", "sqlite:///")):
            raise ValueError("must begin with postgresql:// or sqlite:///")
        if url:
            setting_checks.sql_url(url)
        return url

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        setting_checks.redis_path(url)
        return url

    @field_validator("log_level")
    @classmethod
    def _check_level(cls, level: str) -> str:
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

    @property
    def proxies(self) -> tuple[networks.Network, ...]:
        """The proxies whose `X-Forwarded-*` is believed: by default, those of the platform."""
        default = networks.OF_PLATFORMS if _platform() else networks.NONE
        return networks.of_setting(self.trusted_proxies or default)

    def keys_of(self, provider: str) -> list[str]:
        """Return the keys of `provider`, which are comma-separated in its variable.

        A provider that needs no key has one empty key.
        """
        if own := self._providers.get(provider):
            return own.keys
        return _split(getattr(self, key_variable(provider).lower(), ""))

    def base_url_of(self, provider: str) -> str:
        """Return the base URL of `provider`, with which the URL of every call to it begins."""
        if own := self._providers.get(provider):
            return own.base_url
        return str(getattr(self, f"{provider}_base_url"))

    def read_providers(self, tables: Mapping[str, ProviderTable]) -> None:
        """Read the variables of the providers in `tables`; raise `InvalidSettings`."""
        self._providers.update(_accesses(tables) if tables else {})

    def local_state_problem(self) -> str | None:
        """Return why this machine's disk must not hold state, and what to set; None if it may."""
        platform = _platform()
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


def _platform() -> str | None:
    """Return the name of the platform of many machines that this one belongs to, if any."""
    names = (name for variable, name in MULTI_MACHINE_PLATFORMS.items() if variable in os.environ)
    return next(names, None)


def environment() -> dict[str, str]:
    """Return a copy of the environment, to start a child process with."""
    return dict(os.environ)


def _with_providers() -> type[Settings]:
    names = providers.BASE_URLS
    fields: dict[str, Any] = {key_variable(name).lower(): (Keys, "") for name in names}
    fields |= {f"{name}_base_url": (Address, url) for name, url in names.items()}
    return create_model("Settings", __base__=Settings, **fields)


def _accesses(tables: Mapping[str, ProviderTable]) -> dict[str, ProviderAccess]:
    """Return the base URL and keys of each provider in `tables`, read from the environment."""
    secrets = {table.key_env for table in tables.values() if table.key_env}
    fields: dict[str, Any] = {f"keys_{name}": (Keys, Field("", alias=name)) for name in secrets}
    for name, table in tables.items():
        alias = f"{name.upper()}_BASE_URL"
        fields[f"url_{name}"] = (Address, Field(table.base_url, alias=alias))
    values = _read(create_model("Providers", __base__=Environment, **fields), secrets)
    return {
        name: ProviderAccess(
            getattr(values, f"url_{name}"),
            _split(getattr(values, f"keys_{table.key_env}")) if table.key_env else [""],
        )
        for name, table in tables.items()
    }


def _split(keys: str) -> list[str]:
    return [key.strip() for key in keys.split(",") if key.strip()]


E = TypeVar("E", bound=Environment)


def _read(environment: type[E], secrets: Collection[str]) -> E:
    """Read the environment; raise `InvalidSettings` naming every invalid variable.

    The message does not show the values of `secrets`.
    """
    try:
        return environment()
    except ValidationError as error:
        raise InvalidSettings(setting_checks.explain(error, secrets)) from None
    except UnicodeDecodeError:
        raise InvalidSettings("likedo: .env cannot be read: save it as UTF-8.") from None
    except OSError as error:
        raise InvalidSettings(f"likedo: .env cannot be read: {error.strerror}.") from None


def load() -> Settings:
    """Read the environment; raise `InvalidSettings` naming every invalid variable."""
    return _read(_with_providers(), {key_variable(name) for name in providers.BASE_URLS})


settings = load()


def is_setting(variable: str) -> bool:
    """Tell whether an environment variable is one of the product's own settings."""
    fields = Settings.model_fields
    return variable in {(field.alias or name).upper() for name, field in fields.items()}
