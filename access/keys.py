"""API keys: identifies, creates and revokes them."""

import time
from dataclasses import dataclass
from typing import Any

import orjson
import redis
from cachetools import TTLCache
from sqlalchemy import func, insert, select, update
from sqlmodel import col

import database
from config.redis import connection
from models import account
from models.account import Account, Key
from models.errors import InvalidKey, NotFound

#: The pub/sub channel for accounts whose cached keys are out of date in every web process.
CHANGED_CHANNEL = "likedo:access"
#: A process caches a key for this long, unless a message invalidates it.
CACHE_SECONDS = 5


@dataclass(frozen=True)
class Caller:
    """The account and plan that a key authenticates as."""

    account_id: int
    key_id: int
    plan: str
    expires_at: float | None


_cache: TTLCache[str, Caller] = TTLCache(maxsize=20_000, ttl=CACHE_SECONDS)
#: Why a key is refused. Whoever sends it again and again costs no query each time.
_refused: TTLCache[str, str] = TTLCache(maxsize=20_000, ttl=CACHE_SECONDS)
#: How many change messages this process has received.
_changes = 0


def identify(key: str) -> Caller:
    """Return the caller that `key` authenticates as; raise `InvalidKey` if it is not valid."""
    hashed = account.hash_key(key)
    caller = _cache.get(hashed) or _look_up_and_cache(hashed)
    if caller.expires_at is not None and caller.expires_at <= time.time():
        raise InvalidKey("Incorrect API key provided: it has expired.")
    return caller


def _look_up_and_cache(hashed: str) -> Caller:
    """Look a key up, and cache the result unless a change was announced meanwhile."""
    if (reason := _refused.get(hashed)) is not None:
        raise InvalidKey(reason)
    changes = _changes
    try:
        caller = _look_up(hashed)
    except InvalidKey as error:
        if changes == _changes:
            _refused[hashed] = error.message
        raise
    if changes == _changes:
        _cache[hashed] = caller
    return caller


class _KeyWithAccount:
    account_id: int
    key_id: int
    plan: str
    suspended: bool
    expires_at: float | None
    revoked_at: float | None


_KEYS_WITH_ACCOUNTS: Any = select(
    col(Account.id).label("account_id"),
    col(Key.id).label("key_id"),
    col(Account.plan),
    col(Account.suspended),
    col(Key.expires_at),
    col(Key.revoked_at),
).join(Key, col(Key.account_id) == col(Account.id))


def _look_up(hashed: str) -> Caller:
    row = database.one(_KEYS_WITH_ACCOUNTS.where(col(Key.hash) == hashed), _KeyWithAccount)
    if row is None:
        raise InvalidKey("Incorrect API key provided: nobody has this key.")
    if row.revoked_at is not None:
        raise InvalidKey("Incorrect API key provided: it has been revoked.")
    if row.suspended:
        raise InvalidKey("Incorrect API key provided: its account is suspended.")
    return Caller(row.account_id, row.key_id, row.plan, row.expires_at)


def create(account_id: int, name: str = "", expires_at: float | None = None) -> tuple[int, str]:
    """Create a key for an account; return its id and the key itself, which is not stored."""
    key = account.make_key()
    row = {
        "account_id": account_id,
        "name": name,
        "hash": account.hash_key(key),
        "hint": key[-4:],
        "created": time.time(),
        "expires_at": expires_at,
    }
    return int(database.scalar(insert(Key).values(row).returning(col(Key.id)))), key


def revoke(key_id: int) -> None:
    """Revoke a key, at once in every process; raise `NotFound` if there is none."""
    account_id = database.scalar(
        update(Key)
        .where(col(Key.id) == key_id)
        # The first revocation stays: it is when the key ended.
        .values(revoked_at=func.coalesce(col(Key.revoked_at), time.time()))
        .returning(col(Key.account_id))
    )
    if account_id is None:
        raise NotFound(f"There is no key {key_id}.")
    announce(account_id)


def announce(account_id: int) -> None:
    """Make every web process drop its cached keys and plan of an account."""
    try:
        connection().publish(CHANGED_CHANNEL, orjson.dumps({"account": account_id}))
    except redis.RedisError:
        # Without Redis no request is accepted anyway, and cached entries expire within seconds.
        return


def forget(message: bytes) -> None:
    """Drop this process's cached keys of the account that `message`, from `announce`, names."""
    global _changes
    _changes += 1
    _refused.clear()
    account_id = orjson.loads(message)["account"]
    for hashed in [h for h, caller in _cache.items() if caller.account_id == account_id]:
        _cache.pop(hashed, None)
