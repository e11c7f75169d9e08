"""Keys: whose a key is, and the making and ending of keys."""

import time
from dataclasses import dataclass
from typing import Any

import orjson
import redis
from cachetools import TTLCache
from sqlalchemy import Connection, Row, func, insert, select, update
from sqlmodel import col

import database
from config.redis import connection
from models import account
from models.account import Account, Key
from models.errors import InvalidKey, NotFound

#: The channel on which every web process hears which account's keys to look up anew.
CHANGED_CHANNEL = "likedo:access"
#: How long a process believes what it last read, where no message tells it otherwise.
CACHE_SECONDS = 5


@dataclass(frozen=True)
class Caller:
    """Who a key speaks for."""

    account_id: int
    key_id: int
    plan: str
    expires_at: float | None


_cache: TTLCache[str, Caller] = TTLCache(maxsize=20_000, ttl=CACHE_SECONDS)
#: How often this process was told that something changed.
_changes = 0


def identify(key: str) -> Caller:
    """Return who `key` speaks for; raise `InvalidKey` where it speaks for nobody (any more)."""
    hashed = account.hash_key(key)
    caller = _cache.get(hashed) or _remember(hashed)
    if caller.expires_at is not None and caller.expires_at <= time.time():
        raise InvalidKey("Incorrect API key provided: it has expired.")
    return caller


def _remember(hashed: str) -> Caller:
    """Look a key up, and keep what was found unless something changed meanwhile."""
    changes = _changes
    caller = _look_up(hashed)
    if changes == _changes:
        _cache[hashed] = caller
    return caller


def _look_up(hashed: str) -> Caller:
    def work(connection: Connection) -> tuple[int, int, str, bool, float | None, float | None]:
        query = (
            select(
                col(Account.id),
                col(Key.id),
                col(Account.plan),
                col(Account.suspended),
                col(Key.expires_at),
                col(Key.revoked_at),
            )
            .join(Key, col(Key.account_id) == col(Account.id))
            .where(col(Key.hash) == hashed)
        )
        return tuple(connection.execute(query).one_or_none() or ())  # type: ignore[return-value]  # a row is a tuple

    found = database.run(work)
    if not found:
        raise InvalidKey("Incorrect API key provided: nobody has this key.")
    account_id, key_id, plan, suspended, expires_at, revoked_at = found
    if revoked_at is not None:
        raise InvalidKey("Incorrect API key provided: it has been revoked.")
    if suspended:
        raise InvalidKey("Incorrect API key provided: its account is suspended.")
    return Caller(account_id, key_id, plan, expires_at)


def create(account_id: int, name: str = "", expires_at: float | None = None) -> tuple[int, str]:
    """Make a key for an account; return its id and the key itself, which is shown only now."""
    key = account.make_key()
    row = {
        "account_id": account_id,
        "name": name,
        "hash": account.hash_key(key),
        "hint": key[-4:],
        "created": time.time(),
        "expires_at": expires_at,
    }

    def work(connection: Connection) -> int:
        made = connection.execute(insert(Key).returning(col(Key.id)), row)
        return int(made.scalar_one() or 0)

    return database.run(work), key


def revoke(key_id: int) -> None:
    """End a key, at once in every process; raise `NotFound` where there is none."""

    def work(connection: Connection) -> int | None:
        return connection.execute(
            update(Key)
            .where(col(Key.id) == key_id)
            # The first revocation stays: it is when the key ended.
            .values(revoked_at=func.coalesce(col(Key.revoked_at), time.time()))
            .returning(col(Key.account_id))
        ).scalar_one_or_none()

    account_id = database.run(work)
    if account_id is None:
        raise NotFound(f"There is no key {key_id}.")
    announce(account_id)


def announce(account_id: int) -> None:
    """Tell every web process that what it knows of an account's keys and plan is out of date."""
    try:
        connection().publish(CHANGED_CHANNEL, orjson.dumps({"account": account_id}))
    except redis.RedisError:
        # Without Redis no request is let in anyway, and what is cached ends within seconds.
        return


def forget(message: bytes) -> None:
    """Drop what this process knows of the account that `message`, as announced, names."""
    global _changes
    _changes += 1
    account_id = orjson.loads(message)["account"]
    for hashed in [h for h, caller in _cache.items() if caller.account_id == account_id]:
        _cache.pop(hashed, None)


def listing(account_id: int | None = None) -> list[Row[Any]]:
    """Return the keys of one account or of all, the oldest first, with their `account`'s name."""
    columns: tuple[Any, ...] = (
        col(Key.id),
        col(Account.name).label("account"),
        col(Key.name),
        col(Key.hint),
        col(Key.created),
        col(Key.expires_at),
        col(Key.revoked_at),
    )
    query = select(*columns).join(Account, col(Key.account_id) == col(Account.id))
    query = query.order_by(col(Key.id))
    if account_id is not None:
        query = query.where(col(Key.account_id) == account_id)
    return database.run(lambda connection: list(connection.execute(query)))
