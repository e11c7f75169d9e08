"""The database's clock as an SQL expression: the one clock that all machines share."""

from typing import Any

import sqlalchemy
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[float]):  # noqa: N801  # it reads as the SQL function it is
    """The database's clock, in Unix seconds: the one clock that all machines share."""

    type = sqlalchemy.Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_on_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_on_postgresql(*_: Any, **__: Any) -> str:
    return "extract(epoch FROM clock_timestamp())::float8"
