"""Money: prices, holds, settlement, the ledger. Run by both processes."""
