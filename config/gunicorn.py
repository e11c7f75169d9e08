"""How gunicorn runs the web processes: `gunicorn -c python:config.gunicorn 'app:create_app()'`."""

# ruff: noqa: E402  # gevent patches modules before others import them
from gevent import monkey

monkey.patch_all()

from typing import Any

from config import startup
from config.settings import settings

host = settings.host or "0.0.0.0"
bind = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
workers = settings.web_concurrency
worker_class = "api.server.gunicorn_worker.WebWorker"
#: Maximum of waiting calls and open streams of one process.
worker_connections = 10_000
#: Routers keep connections for about a minute; closing sooner would race their next request.
keepalive = 75
#: Whose word is taken for the scheme that a client used, which links begin with.
forwarded_allow_ips = ",".join(map(str, settings.proxies))
limit_request_line = 8190
#: No header may say under which path a request came: gunicorn would believe any from this machine.
forwarder_headers = ""
#: A process whose event loop is blocked for this long is replaced.
timeout = 60
graceful_timeout = 23
#: No access log by gunicorn, since the query may hold a key; our own log leaves the query out.
accesslog = None
errorlog = "-"
loglevel = "warning"
control_socket_disable = True


def on_starting(_server: Any) -> None:
    """Check once for all processes; exit with a message if the settings are unsafe here."""
    startup.check()


def post_fork(_server: Any, _worker: Any) -> None:
    """Raise the limit of open files: each waiting call is one."""
    startup.raise_open_files()
