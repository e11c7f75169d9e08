"""Below Flask: gunicorn's worker class and the client's socket. Run by the web process."""
