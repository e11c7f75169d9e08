"""The built-in providers: each has a file of its name in `providers/` and a line here.

The line lets the catalogue and callers name the provider, and its variables be read and checked at
every start. Providers that are data have a table of the catalogue instead of both.
"""

#: The base URL of each provider of chats. `{NAME}_BASE_URL` overrides it, and `{NAME}_API_KEY`
#: turns the provider on.
CHAT = {
    "openai": "https://api.openai.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "deepseek": "https://api.deepseek.com",
    "openrouter": "https://openrouter.ai/api/v1",
}

#: The base URL of each provider of images. A provider of both has one URL and one key.
#: Replicate's variable is `REPLICATE_API_TOKEN`.
IMAGES = {
    "openai": CHAT["openai"],
    "replicate": "https://api.replicate.com/v1",
    "stability": "https://api.stability.ai",
}

#: The base URLs of all built-in providers, by name.
BASE_URLS = CHAT | IMAGES

#: The built-in stand-in: it needs no variables, and callers do not name it.
SANDBOX = "sandbox"


def key_variable(provider: str) -> str:
    """Return the name of the variable that holds the keys of the built-in `provider`."""
    return "REPLICATE_API_TOKEN" if provider == "replicate" else f"{provider.upper()}_API_KEY"
