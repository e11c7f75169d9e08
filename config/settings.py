"""Every environment variable, named once, read once and checked once."""

import logging
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, create_model, field_validator
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


class Settings(BaseSettings):
    """The environment, typed. `.env` in the working directory is read first, and loses.

    What each provider has is beside this: its keys and `{name}_base_url`.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        # Some editors begin a file with a mark, which would be part of the first name.
        env_file_encoding="utf-8-sig",
        extra="ignore",
        env_ignore_empty=True,
    )

    var_dir: Path = Field(Path("var"), alias="LIKEDO_VAR")
    database_url: str = ""
    #: Connections one process keeps to PostgreSQL; greenlets that find none free wait their turn.
    database_pool_size: int = Field(10, ge=1, le=1000)
    redis_url: str = "redis://127.0.0.1:6379/0"

    port: int = Field(8000, ge=1, le=65535)
    public_url: str = ""

    sandbox: bool = False

    s3_bucket: str = ""
    s3_endpoint_url: str = ""
    s3_public_url: str = ""
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

    @field_validator(
        "public_url",
        "s3_public_url",
        "s3_endpoint_url",
        *(f"{name}_base_url" for name in providers.BASE_URLS),
        check_fields=False,
    )
    @classmethod
    def _drop_the_last_slash(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return url.rstrip("/")

    @field_validator(
        *(key_variable(name).lower() for name in providers.BASE_URLS), check_fields=False
    )
    @classmethod
    def _fit_into_a_header(cls, keys: str) -> str:
        if not (keys.isascii() and keys.isprintable()):
            raise ValueError("holds a character that no key has, such as the … of an example")
        return keys

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
        """Return the keys an operator gave for `provider`, several being comma-separated."""
        given = getattr(self, key_variable(provider).lower(), "")
        return [key.strip() for key in given.split(",") if key.strip()]

    def base_url_of(self, provider: str) -> str:
        """Return where `provider` is; every call to it starts with this."""
        return str(getattr(self, f"{provider}_base_url"))

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


def _explain(error: ValidationError) -> str:
    lines = [_explain_one(problem) for problem in error.errors()]
    return "likedo: the environment cannot be used:\n" + "\n".join(f"  {line}" for line in lines)


def _explain_one(problem: Any) -> str:
    name = str(problem["loc"][0]).upper() if problem["loc"] else "?"
    text = problem["msg"].removeprefix("Value error, ")
    said = f"{name}: {text[0].lower()}{text[1:]}"
    if name in map(key_variable, providers.BASE_URLS):
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
    fields: dict[str, Any] = {key_variable(name).lower(): (str, "") for name in names}
    fields |= {f"{name}_base_url": (str, url) for name, url in names.items()}
    return create_model("Settings", __base__=Settings, **fields)


def load() -> Settings:
    """Read the environment; raise `InvalidSettings` naming every variable that cannot be used."""
    try:
        return _with_providers()()  # type: ignore[call-arg]  # pydantic reads the arguments itself
    except ValidationError as error:
        raise InvalidSettings(_explain(error)) from None
    except UnicodeDecodeError:
        raise InvalidSettings("likedo: .env cannot be read: save it as UTF-8.") from None
    except OSError as error:
        raise InvalidSettings(f"likedo: .env cannot be read: {error.strerror}.") from None


settings = load()
