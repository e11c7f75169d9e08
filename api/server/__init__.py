"""Below Flask: gunicorn's worker class, the client's socket. Run by the web process."""
