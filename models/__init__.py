"""The nouns: what is stored (account, job, credit, worker) and what is spoken (chat, error)."""
