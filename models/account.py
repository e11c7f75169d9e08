"""Accounts, which pay for calls, and their API keys."""

import base64
import hashlib
import secrets

from sqlalchemy import BigInteger, Column, Text
from sqlmodel import Field, SQLModel

#: The prefix of every key, by which a leaked one can be recognized.
KEY_PREFIX = "lk-"
#: The prefix of secrets in Standard Webhooks; base64 follows.
WEBHOOK_SECRET_PREFIX = "whsec_"


class Account(SQLModel, table=True):
    """One payer. `balance - held` is available for new holds; neither falls below zero."""

    __tablename__ = "accounts"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, max_length=200)
    plan: str = Field(max_length=40)
    suspended: bool = False
    #: Credits. Equal to the sum of the account's ledger entries.
    balance: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    #: Credits held for jobs that have not ended. Equal to the sum of their `held`.
    held: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    #: The hash of the account's newest ledger entry, to which the next one is chained.
    chain: str = Field(max_length=64)
    #: The secret that signs the account's webhooks. Accounts older than webhooks have None until
    #: it is first needed.
    webhook_secret: str | None = Field(default=None, max_length=64)
    #: Unix seconds.
    created: float


class Key(SQLModel, table=True):
    """A secret that authenticates as an account. Only its hash is stored."""

    __tablename__ = "keys"

    id: int | None = Field(default=None, primary_key=True)
    account_id: int = Field(foreign_key="accounts.id", index=True)
    name: str = Field(default="", max_length=200)
    #: SHA-256 of the key, in hex. A key has 256 random bits, so it needs no slow hash.
    hash: str = Field(unique=True, max_length=64)
    #: The last four characters, to tell keys apart in listings.
    hint: str = Field(max_length=8)
    created: float
    expires_at: float | None = None
    revoked_at: float | None = None
    #: What it may be used for, if that is limited: JSON lists of models' ids and of CIDRs.
    models: str | None = Field(default=None, sa_column=Column(Text))
    addresses: str | None = Field(default=None, sa_column=Column(Text))
    requests_per_hour: int | None = None
    #: The credits that its calls may cost, in all and per UTC day. They are set when the key is
    #: made and never change. A key without either is not counted.
    credit_limit: int | None = Field(default=None, sa_column=Column(BigInteger))
    daily_limit: int | None = Field(default=None, sa_column=Column(BigInteger))
    #: What its jobs have cost, or hold while they run; and how much of that is due to jobs held on
    #: `spent_day`, which is the newest UTC day with a hold, in days since 1970.
    spent: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    spent_day: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    spent_on_day: int = Field(
        default=0, sa_column=Column(BigInteger, nullable=False, server_default="0")
    )


def make_key() -> str:
    """Return a new key, which is shown only once."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """Return the hash that is stored for `key`."""
    return hashlib.sha256(key.encode()).hexdigest()


def make_webhook_secret() -> str:
    """Return a new secret to sign webhooks with."""
    return WEBHOOK_SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
