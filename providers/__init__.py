"""The providers: one file or folder per vendor, and the code they share.

A provider that speaks OpenAI's protocol is a table in the catalogue. Any other is a file that ends
with `provider = …` (for images: `images = …`), plus a line in `config/providers.py`.
"""

from importlib import import_module

from config.catalog.load import catalog
from config.providers import BASE_URLS, CHAT, IMAGES, SANDBOX
from models.errors import NoProvider
from providers import declared
from providers.base import Provider
from providers.image import ImageProvider

by_name: dict[str, Provider] = {
    name: import_module(f"providers.{name}").provider for name in (*CHAT, SANDBOX)
} | {name: declared.provider(facts) for name, facts in catalog.providers.items()}
#: The image providers, by name.
images: dict[str, ImageProvider] = {
    name: import_module(f"providers.{name}").images for name in (*IMAGES, SANDBOX)
}

#: All providers except the sandbox.
NAMES = (*BASE_URLS, *catalog.providers)


def get_one(name: str) -> Provider:
    """Return the provider called `name`; raise `NoProvider` if there is none."""
    if name not in by_name:
        raise NoProvider(f"There is no provider '{name}'.")
    return by_name[name]
