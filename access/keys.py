"""API keys: identifies, creates and revokes them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import redis
from cachetools import LRUCache, TTLCache
from sqlalchemy import func, insert, select, update
from sqlmodel import col

import database
from access import key_rules
from access.key_rules import KeyRules
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
    """The account and plan that a key authenticates as, and what it may be used for."""

    account_id: int
    key_id: int
    plan: str
    expires_at: float | None
    rules: KeyRules = field(default_factory=KeyRules)


@dataclass(frozen=True)
class Limits:
    """What a new key is limited to; None where it is not. `addresses` are CIDRs.

    The two limits are credits, in all and per UTC day.
    """

    expires_at: float | None = None
    models: Sequence[str] | None = None
    addresses: Sequence[str] | None = None
    requests_per_hour: int | None = None
    credit_limit: int | None = None
    daily_limit: int | None = None


UNLIMITED = Limits()


_cache: TTLCache[str, Caller] = TTLCache(maxsize=20_000, ttl=CACHE_SECONDS)
#: Keys that were valid when this process saw them last, by their hashes. A key leaves it as soon as
#: it is refused, so that whoever holds a good key is not taken for somebody who guesses.
_known: LRUCache[str, bool] = LRUCache(maxsize=20_000)
#: Why a key is refused. Whoever sends it again and again costs no query each time.
_refused: TTLCache[str, str] = TTLCache(maxsize=20_000, ttl=CACHE_SECONDS)
#: How many change messages this process has received.
_changes = 0


def identify(key: str) -> Caller:
    """Return the caller that `key` authenticates as; raise `InvalidKey` if it is not valid."""
    hashed = account.hash_key(key)
    try:
        caller = _cache.get(hashed) or _look_up_and_cache(hashed)
        if caller.expires_at is not None and caller.expires_at <= time.time():
            raise InvalidKey("Incorrect API key provided: it has expired.")
    except InvalidKey:
        _known.pop(hashed, None)
        raise
    _known[hashed] = True
    return caller


def is_known(key: str) -> bool:
    """Tell whether `key` was valid when this process saw it last."""
    return account.hash_key(key) in _known


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
    models: str | None
    addresses: str | None
    requests_per_hour: int | None


_KEYS_WITH_ACCOUNTS: Any = select(
    col(Account.id).label("account_id"),
    col(Key.id).label("key_id"),
    col(Account.plan),
    col(Account.suspended),
    col(Key.expires_at),
    col(Key.revoked_at),
    *(col(Key.models), col(Key.addresses), col(Key.requests_per_hour)),
).join(Key, col(Key.account_id) == col(Account.id))


def _look_up(hashed: str) -> Caller:
    row = database.one(_KEYS_WITH_ACCOUNTS.where(col(Key.hash) == hashed), _KeyWithAccount)
    if row is None:
        raise InvalidKey("Incorrect API key provided: nobody has this key.")
    if row.revoked_at is not None:
        raise InvalidKey("Incorrect API key provided: it has been revoked.")
    if row.suspended:
        raise InvalidKey("Incorrect API key provided: its account is suspended.")
    rules = key_rules.from_columns(row.models, row.addresses, row.requests_per_hour)
    return Caller(row.account_id, row.key_id, row.plan, row.expires_at, rules)


class _Rules:
    models: str | None
    addresses: str | None
    requests_per_hour: int | None


def rules_of(key_id: int) -> KeyRules:
    """Return what a key that exists may be used for."""
    columns = (col(Key.models), col(Key.addresses), col(Key.requests_per_hour))
    row = database.one(select(*columns).where(col(Key.id) == key_id), _Rules)
    assert row is not None  # Keys are never deleted.
    return key_rules.from_columns(row.models, row.addresses, row.requests_per_hour)


def create(account_id: int, name: str = "", limits: Limits = UNLIMITED) -> tuple[int, str]:
    """Create a key for an account; return its id and the key itself, which is not stored."""
    key = account.make_key()
    row = {
        "account_id": account_id,
        "name": name,
        "hash": account.hash_key(key),
        "hint": key[-4:],
        "created": time.time(),
        "expires_at": limits.expires_at,
        "models": key_rules.as_column(limits.models),
        "addresses": key_rules.as_column(limits.addresses),
        "requests_per_hour": limits.requests_per_hour,
        "credit_limit": limits.credit_limit,
        "daily_limit": limits.daily_limit,
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
