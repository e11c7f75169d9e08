"""Who calls and pays: accounts and the keys that speak for them."""

import base64
import hashlib
import secrets

from sqlalchemy import BigInteger, Column
from sqlmodel import Field, SQLModel

#: Every key begins with it, so that a leaked one can be told from other secrets.
KEY_PREFIX = "lk-"
#: How Standard Webhooks has secrets begin; base64 follows.
WEBHOOK_SECRET_PREFIX = "whsec_"


class Account(SQLModel, table=True):
    """One payer. `balance - held` is what it can still promise; neither falls below zero."""

    __tablename__ = "accounts"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, max_length=200)
    plan: str = Field(max_length=40)
    suspended: bool = False
    #: Credits. Equal to the sum of the account's ledger entries.
    balance: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    #: Credits promised to jobs that have not ended. Equal to the sum of their `held`.
    held: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    #: The hash of the account's newest ledger entry, which the next one follows.
    chain: str = Field(max_length=64)
    #: What the account's webhooks are signed with. None until it is first asked for, where the
    #: account is older than webhooks are.
    webhook_secret: str | None = Field(default=None, max_length=64)
    #: Unix seconds.
    created: float


class Key(SQLModel, table=True):
    """A secret that speaks for an account. Only its hash is kept."""

    __tablename__ = "keys"

    id: int | None = Field(default=None, primary_key=True)
    account_id: int = Field(foreign_key="accounts.id", index=True)
    name: str = Field(default="", max_length=200)
    #: SHA-256 of the key, in hex. A key has 192 random bits, so no slow hash is called for.
    hash: str = Field(unique=True, max_length=64)
    #: The last four characters, to tell keys apart in listings.
    hint: str = Field(max_length=8)
    created: float
    expires_at: float | None = None
    revoked_at: float | None = None


def make_key() -> str:
    """Return a new key, to be shown once."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """Return what is stored of `key`."""
    return hashlib.sha256(key.encode()).hexdigest()


def make_webhook_secret() -> str:
    """Return a new secret to sign webhooks with."""
    return WEBHOOK_SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
