"""The web process: which blueprint is served at which path, and nothing else."""

from flask import Blueprint, Flask

from api import batches, chat, credits, errors, estimate, files, health, image, jobs, media, models
from api.request import admission
from api.response import headers
from config import startup
from ops import logs

#: The documented path of the API, and the one that some tools insist on.
BASE_PATHS = ("/api/v1/ai", "/v1")


def create_app() -> Flask:
    """Return the WSGI application."""
    logs.configure()
    startup.log_redis()
    app = Flask("likedo", static_folder=None)
    # Two slashes get a 404 in the envelope: a redirect would be HTML, and show a key in the query.
    app.url_map.merge_slashes = False
    errors.register(app)
    headers.register(app)
    app.register_blueprint(health.bp)
    app.register_blueprint(media.bp)
    for number, path in enumerate(BASE_PATHS):
        app.register_blueprint(_api(number), url_prefix=path)
    return app


def _api(number: int) -> Blueprint:
    api = Blueprint(f"api{number}", __name__)
    api.before_request(admission.admit)
    api.after_request(admission.ensure_peeked)
    for noun in (chat, image, models, credits, jobs, estimate, files, batches):
        api.register_blueprint(noun.bp)
    return api
