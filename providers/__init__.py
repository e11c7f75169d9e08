"""Who answers: one file for each vendor, and what they have in common.

A new provider is a file that ends with `provider = …`, and its line here.
"""

from importlib import import_module

from models.errors import NoProvider
from providers.base import Provider

_FILES = (
    "openai",
    "gemini",
    "deepseek",
    "openrouter",
    "sandbox",
)

by_name: dict[str, Provider] = {
    name: import_module(f"providers.{name}").provider for name in _FILES
}


def get_one(name: str) -> Provider:
    """Return the provider called `name`; raise `NoProvider` where there is none."""
    if name not in by_name:
        raise NoProvider(f"There is no provider '{name}'.")
    return by_name[name]
