"""What every image provider implements: `draw`, and optionally `resume` and `cancel`.

A provider holds no state and knows nothing of accounts, credits, queues or the database. Sizes,
qualities and styles are data: the catalogue says what is sent for each of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from config.catalog.fields import Sent
from config.catalog.model import DOCUMENTED_SIZES, ImageRoute, ImageUpstream
from models.errors import InvalidRequest, LikeDoError, Unavailable, UnsupportedParameter
from models.image import OF_OPENAI, ImageRequest, Size
from net.answer import Response
from net.call import Call
from providers.wire import refusal


@dataclass(frozen=True)
class DrawRequest:
    """Images of one prompt, to be requested in one call, in the provider's own terms."""

    #: The model's id at the provider.
    model: str
    prompt: str
    #: At most the model's `images_per_call`.
    count: int
    #: Each image becomes a new file in this folder, which may be shared with other calls.
    folder: Path
    #: Further parameters, with the provider's names and values: what the catalogue sends for the
    #: size, the quality and the style, and the caller's parameters that are passed on.
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """An image as the provider sent it: a file that has not been decoded yet."""

    path: Path
    revised_prompt: str | None = None


@dataclass(frozen=True)
class DrawResult:
    """The result: for each image requested, in order, the image or the error in its place."""

    pictures: list[Picture | LikeDoError]
    #: OpenAI's `usage` object, if the provider reports one.
    usage: dict[str, Any] | None = None


class ImageProvider(ABC):
    name: ClassVar[str]
    #: Statuses of 500 and above that mean the provider failed before it made anything. After any
    #: other, and after a broken connection, images may have been made, so the call is not retried.
    nothing_ran_statuses: ClassVar[frozenset[int]] = frozenset()
    #: Whether parameters that are not known here are passed on instead of refused.
    supports_unknown: ClassVar[bool] = False

    @abstractmethod
    def draw(
        self, request: DrawRequest, key: str, call: Call, on_started: Callable[[str], None]
    ) -> DrawResult:
        """Have the provider make the images of `request`, with the operator's `key`.

        `call` carries the deadline and can be aborted from outside. If the provider goes on working
        after its first response, `on_started` is called right away with an operation id for
        `resume` and `cancel`.

        Provider errors are raised as errors of `models.errors`; if `call` was aborted, its error is
        raised. An error has `nothing_ran` if nothing can have been started, so a retry cannot be
        paid for twice. If only some images were made, the errors of the others are in the result;
        if none was made, the first error is raised.
        """

    def check(self, request: ImageRequest, route: ImageRoute) -> None:
        """Raise `UnsupportedParameter`, or its parent, for what `route` does not support."""
        upstream = route.upstream
        refused = {
            "size": native_size(request.size, upstream) is None,
            "quality": request.quality not in route.qualities,
            "style": request.style is not None and request.style not in route.styles,
            **{name: name not in upstream.takes for name in _openai_parameters(request)},
            **dict.fromkeys(request.unknown, not self.supports_unknown),
        }
        for name, is_refused in refused.items():
            if is_refused:
                raise UnsupportedParameter(_refusal(name, request, route), param=name)
        max_characters = upstream.prompt_characters
        longest = max(len(_prompt_sent(prompt, request, route)) for prompt in request.prompts)
        if max_characters is not None and longest > max_characters:
            raise InvalidRequest(
                f"Invalid value for 'prompt': '{request.model}' takes at most {max_characters} "
                "characters.",
                param="prompt",
            )

    def refusal(self, response: Response) -> LikeDoError:
        """Return the error of ours for a `response` with an error status."""
        error = refusal.refusal(self.name, response)
        is_json = "json" in response.headers.get("content-type", "")
        error.nothing_ran |= is_json and response.status in self.nothing_ran_statuses
        return error

    def resume(self, operation_id: str, request: DrawRequest, key: str, call: Call) -> DrawResult:
        """Wait for the images of an operation that `draw` started; return them as `draw` does."""
        raise Unavailable("The images were lost when their worker went away. Try again.")

    def cancel(self, operation_id: str, key: str, call: Call) -> None:
        """Tell the provider to stop an operation that `draw` started."""
        raise Unavailable("What was begun cannot be ended.")


# ---- Translating a request for a route -----------------------------------------------------------


def _refusal(name: str, request: ImageRequest, route: ImageRoute) -> str:
    options = {"size": _sizes(route.upstream), "quality": sorted(route.qualities)}
    advice = f" It takes {', '.join(options[name])}." if name in options else " Leave it out."
    value = f" '{request.body[name]}'" if name in options and name in request.body else ""
    return f"'{request.model}' does not support this '{name}'{value}.{advice}"


def _sizes(upstream: ImageUpstream) -> list[str]:
    """Return descriptions of the sizes that can be requested."""
    named = dict.fromkeys([*DOCUMENTED_SIZES, *upstream.sizes])
    free = upstream.free_sizes
    if free is None:
        return list(named)
    return [*named, f"other sizes in multiples of {free.multiple_of} up to {free.longest_side}"]


def _openai_parameters(request: ImageRequest) -> list[str]:
    given = {name: request.body.get(name) for name in OF_OPENAI}
    return [name for name, value in given.items() if isinstance(value, str) and value != "auto"]


def native_size(size: Size, upstream: ImageUpstream) -> Size | None:
    """Return the size to request for `size`: itself, or a larger one to scale down.

    None if the model does not make `size` and it is not one of the sizes that the API documents
    for every model.
    """
    free = upstream.free_sizes
    if str(size) in upstream.sizes or (free and free.have(size.width, size.height)):
        return size
    if str(size) not in DOCUMENTED_SIZES:
        return None
    larger = [
        native
        for native in map(Size.read, upstream.sizes)
        if native.width >= size.width and native.height >= size.height
    ]
    # All documented sizes are squares, so the smallest square comes before other shapes.
    return min(larger, key=lambda native: (native.width != native.height, native), default=None)


def draw_request(request: ImageRequest, route: ImageRoute, count: int, folder: Path) -> DrawRequest:
    """Return the request for `count` images; the caller's has one prompt and passed `check`."""
    upstream = route.upstream
    size = native_size(request.size, upstream)
    assert size is not None
    passed_on = {name: request.body[name] for name in _passed_on(request, upstream)}
    parameters = {
        **upstream.sends,
        **_size_sent(size, upstream),
        **route.qualities[request.quality],
        **upstream.styles.get(request.style or "", {}),
        **passed_on,
        **request.unknown,
    }
    prompt = _prompt_sent(request.prompt, request, route)
    return DrawRequest(upstream.id, prompt, count, folder, parameters)


def _prompt_sent(prompt: str, request: ImageRequest, route: ImageRoute) -> str:
    """Return the prompt, with the text that emulates a style the model does not support."""
    style_prompt = route.style_prompts.get(request.style or "")
    return f"{prompt}\n\n{style_prompt}" if style_prompt else prompt


def _passed_on(request: ImageRequest, upstream: ImageUpstream) -> list[str]:
    return [name for name in sorted(upstream.takes) if isinstance(request.body.get(name), str)]


def _size_sent(size: Size, upstream: ImageUpstream) -> Sent:
    if str(size) in upstream.sizes:
        return upstream.sizes[str(size)]
    assert upstream.free_sizes is not None
    return {name: _filled(value, size) for name, value in upstream.free_sizes.sends.items()}


def _filled(value: Any, size: Size) -> Any:
    numbers = {"{width}": size.width, "{height}": size.height}
    if not isinstance(value, str) or value in numbers:
        return numbers.get(value, value) if isinstance(value, str) else value
    return value.format(width=size.width, height=size.height)


def draw_result(
    outcomes: Sequence[Picture | LikeDoError], count: int, missing: LikeDoError
) -> DrawResult:
    """Return the result of `count` `outcomes`, filled up with the error `missing`.

    If there is no image among them, the first error is raised.
    """
    outcomes = [*outcomes[:count], *[missing] * (count - len(outcomes))]
    if not any(isinstance(outcome, Picture) for outcome in outcomes):
        raise next(outcome for outcome in outcomes if isinstance(outcome, LikeDoError))
    return DrawResult(outcomes)
