"""What went wrong, as one sentence that says what to do about it."""

import redis
import sqlalchemy
from alembic.util import CommandError
from sqlalchemy import exc

from config.settings import settings
from models.errors import LikeDoError, Unavailable


def sentence(error: Exception) -> str | None:
    """Explain `error`; None where it is a bug of ours."""
    match error:
        case Unavailable(__cause__=exc.SQLAlchemyError() as cause):
            return _database(cause)
        case LikeDoError():
            return error.message
        case exc.SQLAlchemyError():
            return _database(error)
        case CommandError():
            return (
                f"The database {_address()} was made by another version of this program "
                f"({error}): install the version that made it, or a newer one."
            )
        case redis.RedisError():
            return f"Redis at {redis_address()} does not answer ({error}): check REDIS_URL."
        case OSError():
            return f"{error.filename or 'A file'}: {error.strerror or error}."
        case _:
            return None


def _database(error: exc.SQLAlchemyError) -> str | None:
    if isinstance(error, exc.ArgumentError):
        return f"DATABASE_URL cannot be used: {_first_line(error)}"
    reason = _first_line(getattr(error, "orig", None) or error)
    if isinstance(error, exc.ProgrammingError) or "no such" in reason:
        return f"The database {_address()} lacks tables it should have: run `likedo db upgrade`."
    if isinstance(error, exc.DatabaseError | exc.InterfaceError | exc.TimeoutError):
        return f"The database {_address()} cannot be used ({reason}): check DATABASE_URL."
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _address() -> str:
    """Return where the database is, without its password."""
    return sqlalchemy.make_url(settings.sql_url).render_as_string(hide_password=True)


def redis_address() -> str:
    """Return where Redis is, without its password."""
    scheme, slashes, rest = settings.redis_url.partition("://")
    return scheme + slashes + rest.rpartition("@")[2]
