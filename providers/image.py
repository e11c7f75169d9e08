"""What every provider of images implements: `draw`, and perhaps `resume` and `cancel`.

A provider holds no state and knows nothing of accounts, credits, queues or the database. What a
model makes of a size, a quality or a style is data: the catalogue says what is sent for each.
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
class Wanted:
    """Images of one prompt, to be requested at once."""

    #: The model's id at the provider.
    model: str
    prompt: str
    #: At most the model's `images_per_call`.
    count: int
    #: Each image becomes a new file in this folder, which may be shared with other calls.
    folder: Path
    #: What else is sent: what the catalogue says of the size and the quality, and parameters that
    #: are passed on. Names and values are the provider's own.
    sent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """An image as the provider gave it: a file that has not been decoded yet."""

    path: Path
    revised_prompt: str | None = None


@dataclass(frozen=True)
class Drawn:
    """The result: for each image that was wanted, in order, the image or why there is none."""

    pictures: list[Picture | LikeDoError]
    #: OpenAI's `usage` object, where the provider reports one.
    usage: dict[str, Any] | None = None


class ImageProvider(ABC):
    name: ClassVar[str]
    #: Statuses of 500 and above by which the provider says that it failed and made nothing. After
    #: all others, and after a broken connection, images may have been made, so no call is retried.
    nothing_ran_statuses: ClassVar[frozenset[int]] = frozenset()
    #: Whether it supports OpenAI's parameters that are not known here: they are passed on.
    supports_unknown: ClassVar[bool] = False

    @abstractmethod
    def draw(
        self, wanted: Wanted, key: str, call: Call, on_started: Callable[[str], None]
    ) -> Drawn:
        """Have the provider make the `wanted` images, with the operator's `key`.

        `call` carries the deadline and can be aborted from outside. If the provider works on after
        its first response, `on_started` is called with an operation id, by which `resume` finds the
        work again, before anything else is done.

        Raises what `call` was aborted with, and the errors of `models.errors` that stand for the
        provider's. An error has `nothing_ran` if nothing can have been started, so that a retry
        cannot be paid for twice. If only some images were made, the errors of the others are in
        the result; if none was, its error is raised.
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
        """Return the error that a `response` with an error status stands for."""
        error = refusal.refusal(self.name, response)
        is_json = "json" in response.headers.get("content-type", "")
        error.nothing_ran |= is_json and response.status in self.nothing_ran_statuses
        return error

    def resume(self, operation_id: str, wanted: Wanted, key: str, call: Call) -> Drawn:
        """Wait for the images of an operation that `draw` started, and return them as it does."""
        raise Unavailable("The images were lost when their worker went away. Try again.")

    def cancel(self, operation_id: str, key: str, call: Call) -> None:
        """Tell the provider to stop an operation that `draw` started."""
        raise Unavailable("What was begun cannot be ended.")


# ---- A request in a route's terms ----------------------------------------------------------------


def _refusal(name: str, request: ImageRequest, route: ImageRoute) -> str:
    has = {"size": _sizes(route.upstream), "quality": sorted(route.qualities)}
    known = f" It takes {', '.join(has[name])}." if name in has else " Leave it out."
    asked = f" '{request.body[name]}'" if name in has and name in request.body else ""
    return f"'{request.model}' does not support this '{name}'{asked}.{known}"


def _sizes(upstream: ImageUpstream) -> list[str]:
    """Return the sizes that can be requested, in words."""
    named = dict.fromkeys([*DOCUMENTED_SIZES, *upstream.sizes])
    free = upstream.free_sizes
    if free is None:
        return list(named)
    return [*named, f"other sizes in multiples of {free.multiple_of} up to {free.longest_side}"]


def _openai_parameters(request: ImageRequest) -> list[str]:
    given = {name: request.body.get(name) for name in OF_OPENAI}
    return [name for name, value in given.items() if isinstance(value, str) and value != "auto"]


def native_size(size: Size, upstream: ImageUpstream) -> Size | None:
    """Return the size to request for `size`: itself, or the nearest larger one to scale down.

    None if the model does not make it, and it is not one that every model offers here.
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
    # All documented sizes are squares: of several as large, prefer a square.
    return min(larger, key=lambda native: (native.width != native.height, native), default=None)


def wanted(request: ImageRequest, route: ImageRoute, count: int, folder: Path) -> Wanted:
    """Return `count` images of a `request` for one prompt that `check` has accepted."""
    upstream = route.upstream
    size = native_size(request.size, upstream)
    assert size is not None
    passed = {name: request.body[name] for name in _passed(request, upstream)}
    sent = {
        **upstream.sends,
        **_size_sent(size, upstream),
        **route.qualities[request.quality],
        **upstream.styles.get(request.style or "", {}),
        **passed,
        **request.unknown,
    }
    prompt = _prompt_sent(request.prompt, request, route)
    return Wanted(upstream.id, prompt, count, folder, sent)


def _prompt_sent(prompt: str, request: ImageRequest, route: ImageRoute) -> str:
    """Return a prompt with what stands in for a style that the model does not support."""
    added = route.style_prompts.get(request.style or "")
    return f"{prompt}\n\n{added}" if added else prompt


def _passed(request: ImageRequest, upstream: ImageUpstream) -> list[str]:
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


def drawn(outcomes: Sequence[Picture | LikeDoError], count: int, missing: LikeDoError) -> Drawn:
    """Return `count` of the `outcomes`, with the error `missing` for each one too few.

    Raises the first error if there is no image among them.
    """
    outcomes = [*outcomes[:count], *[missing] * (count - len(outcomes))]
    if not any(isinstance(outcome, Picture) for outcome in outcomes):
        raise next(outcome for outcome in outcomes if isinstance(outcome, LikeDoError))
    return Drawn(outcomes)
