"""The worker: RQ's loop with greenlets, its lease, running a job. Run by workers."""
