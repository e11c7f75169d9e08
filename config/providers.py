"""The built-in providers: each is the file of its name in `providers/`, and its line here.

By its line a provider's variables are read and checked at every start, the catalogue may lead to
it, and callers may name it. Those that are data have a table of the catalogue in place of both.
"""

#: Where each provider that chats is; `{NAME}_BASE_URL` says otherwise, and `{NAME}_API_KEY` is
#: what switches it on.
CHAT = {
    "openai": "https://api.openai.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "deepseek": "https://api.deepseek.com",
    "openrouter": "https://openrouter.ai/api/v1",
}

#: Where each provider that draws is; of one that chats, too, it is the same place and key.
#: Replicate's variable is `REPLICATE_API_TOKEN`.
IMAGES = {
    "openai": CHAT["openai"],
    "replicate": "https://api.replicate.com/v1",
    "stability": "https://api.stability.ai",
}

#: All of them, by name.
BASE_URLS = CHAT | IMAGES

#: The one that is built in: nothing is to be set for it, and callers do not name it.
SANDBOX = "sandbox"


def key_variable(provider: str) -> str:
    """Return the name of the variable that holds the keys of `provider`."""
    return "REPLICATE_API_TOKEN" if provider == "replicate" else f"{provider.upper()}_API_KEY"
