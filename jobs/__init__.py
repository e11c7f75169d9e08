"""The work: jobs are queued here, run here, and announced here."""
