"""Parameters that no price covers: they change which model answers, or what it costs.

The hold is computed from the model, the prompt and the maximum of output tokens. A parameter that
adds a search, another model or a dearer tier would cost more than the hold, so it is refused until
the catalogue prices it.
"""

from collections.abc import Mapping
from typing import Any

from models.errors import UnsupportedParameter

#: The values of each such parameter that change nothing, beside null.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    # OpenRouter's: other models, the choice among them, tools that cost per use, stored settings.
    "models": ([],),
    "route": ("",),
    "plugins": ([],),
    "preset": ("",),
    # Searches: OpenAI's and OpenRouter's, which an empty object switches on; xAI's; Qwen's.
    "web_search_options": (),
    "search_parameters": ({"mode": "off"},),
    "enable_search": (False,),
    # Answers that are generated and paid for, but not returned.
    "best_of": (1,),
    "service_tier": ("auto", "default"),
}
#: What an answer may consist of. Sound and images have prices of their own.
_MODALITIES = frozenset({"text"})

#: Parameters that are left out of what is sent: their harmless values say nothing, and vendors that
#: do not know the names refuse them.
LEFT_OUT = _HARMLESS.keys() - {"service_tier"}

#: More of the same kind for images: how many are made, at what size, and with how much work.
_OF_IMAGES: dict[str, tuple[Any, ...]] = dict.fromkeys(
    (
        *("num_images", "num_outputs", "batch_size", "samples", "megapixels", "width", "height"),
        *("steps", "num_inference_steps", "upscale", "image", "images", "mask"),
        *("tools", "reasoning", "reasoning_effort"),
    ),
    (),
)


def check_chat(body: Mapping[str, Any]) -> None:
    """Raise `UnsupportedParameter` for the first such parameter in the `body` of a chat."""
    _check(body, _HARMLESS)
    modalities = body.get("modalities")
    if modalities and not (isinstance(modalities, list) and _are_text(modalities)):
        raise _refusal("modalities", " other than text")


def check_image(body: Mapping[str, Any]) -> None:
    """Raise `UnsupportedParameter` for the first such parameter in the `body` of an image request.

    Its known parameters are priced; the unknown ones go to providers of OpenAI's protocol.
    """
    _check(body, _HARMLESS | _OF_IMAGES)


def _check(body: Mapping[str, Any], harmless: Mapping[str, tuple[Any, ...]]) -> None:
    for name, values in harmless.items():
        value = body.get(name)
        if value is not None and value not in values:
            raise _refusal(
                name, " other than 'auto' or 'default'" if name == "service_tier" else ""
            )


def _are_text(modalities: list[Any]) -> bool:
    return all(isinstance(each, str) and each in _MODALITIES for each in modalities)


def _refusal(name: str, value: str) -> UnsupportedParameter:
    return UnsupportedParameter(
        f"'{name}'{value} is not supported: it could change which model answers or what the call "
        "costs, and has no price here. Leave it out.",
        param=name,
    )
