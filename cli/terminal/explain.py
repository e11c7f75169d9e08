"""Explain an error as one sentence that says what to do about it.

A package is loaded here only if it raised the error.
"""

from models.errors import LikeDoError, Unavailable


def sentence(error: Exception) -> str | None:
    """Return an explanation of `error`; None if it is a bug of ours."""
    cause = error.__cause__
    if isinstance(error, Unavailable) and _is_from("sqlalchemy", cause):
        return _explain_database(cause)
    if isinstance(error, LikeDoError):
        return error.message
    if _is_from("sqlalchemy", error):
        return _explain_database(error)
    if _is_from("alembic", error):
        return _explain_migration(error)
    if _is_from("redis", error):
        return f"Redis at {redis_address()} does not answer ({error}): check REDIS_URL."
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'}: {error.strerror or error}."
    return None


def _is_from(package: str, error: BaseException | None) -> bool:
    """Tell whether the error's class, or one of its bases, is defined in `package`."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(error).__mro__)


def _explain_database(error: BaseException | None) -> str | None:
    from sqlalchemy import exc

    if isinstance(error, exc.ArgumentError):
        return f"DATABASE_URL cannot be used: {_first_line(error)}"
    reason = _first_line(getattr(error, "orig", None) or error)
    if isinstance(error, exc.ProgrammingError) or "no such" in reason:
        return f"The database {_address()} lacks tables it should have: run `likedo db upgrade`."
    if isinstance(error, exc.DatabaseError | exc.InterfaceError | exc.TimeoutError):
        return f"The database {_address()} cannot be used ({reason}): check DATABASE_URL."
    return None


def _explain_migration(error: Exception) -> str | None:
    from alembic.util import CommandError

    if not isinstance(error, CommandError):
        return None
    return (
        f"The database {_address()} was made by another version of this program "
        f"({error}): install the version that made it, or a newer one."
    )


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().split("\n")[0]


def _address() -> str:
    """Return the database's URL without its password."""
    from sqlalchemy import make_url

    from config.settings import settings

    return make_url(settings.sql_url).render_as_string(hide_password=True)


def redis_address() -> str:
    """Return the URL of Redis without its password."""
    from config.settings import settings

    scheme, slashes, rest = settings.redis_url.partition("://")
    return scheme + slashes + rest.rpartition("@")[2]
