"""The ledger's tests and these have a database of their own in the same way."""

from tests.billing.conftest import stored

__all__ = ["stored"]
