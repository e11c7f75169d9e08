"""Who pays: what things cost, and the ledger that says so."""
