"""The worker's lease: kept, lost, and compared with the rows that name it."""

#: Without a renewal for this long, another may soon take the jobs over: stop working on them.
LEASE_MARGIN_SECONDS = 2
