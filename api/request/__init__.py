"""Reading requests: admission, shared parameters, uploads, retries. Run by the web process."""
