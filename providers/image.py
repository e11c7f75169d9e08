"""What every provider of images is: a way to have some drawn, and perhaps to come back for them.

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
    """Some images of one prompt, to be asked for at once."""

    prompt: str
    count: int
    #: What else is sent: what the catalogue says of the size and the quality, and parameters that
    #: are passed on. Names and values are the provider's own.
    sent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """An image as the provider gave it: a file that nobody has looked into yet."""

    path: Path
    revised_prompt: str | None = None


@dataclass(frozen=True)
class Drawn:
    """What came of it: for each image that was wanted, in order, the image or why there is none."""

    pictures: list[Picture | LikeDoError]
    #: OpenAI's `usage` object, where the provider reports one.
    usage: dict[str, Any] | None = None


class ImageProvider(ABC):
    name: ClassVar[str]
    #: Statuses of 500 and above by which the provider says that it failed and made nothing. After
    #: all others, and after a connection that broke, nobody knows, and nothing is asked again.
    fails_surely: ClassVar[frozenset[int]] = frozenset()
    #: Parameters of OpenAI's that it takes, of those that are not known here.
    takes_unknown: ClassVar[bool] = False

    @abstractmethod
    def draw(
        self,
        wanted: Wanted,
        route: ImageRoute,
        key: str,
        call: Call,
        folder: Path,
        started: Callable[[str], None],
    ) -> Drawn:
        """Have `wanted.count` images drawn, at most `route.upstream.images_per_call`.

        Each is written into a new file in `folder`, which may be shared with other calls. Where
        the provider works on after its first answer, `started` is called, before anything else is
        done, with an id by which `resume` finds the work again.

        Raises what `call` was aborted with, and the errors of `models.errors` that stand for what
        the provider said. An error after which asking again cannot be paid for twice, since nothing
        can have been begun, has `nothing_ran`. Where some images came and others did not, the
        errors of those are in what is returned; where none came, it is raised.
        """

    def refusal(self, response: Response) -> LikeDoError:
        """Return the error that a `response` with an error status stands for."""
        error = refusal.refusal(self.name, response)
        told = "json" in response.headers.get("content-type", "")
        error.nothing_ran |= told and response.status in self.fails_surely
        return error

    def resume(
        self, started: str, wanted: Wanted, route: ImageRoute, key: str, call: Call, folder: Path
    ) -> Drawn:
        """Wait for what was begun as `started`, and return it as `draw` does."""
        raise Unavailable("The images were lost when their worker went away. Try again.")

    def cancel(self, started: str, key: str, call: Call) -> None:
        """Tell the provider that nobody wants what was begun as `started` any more."""
        raise Unavailable("What was begun cannot be ended.")


# ---- What is asked, in the words of a route ------------------------------------------------------


def check(provider: ImageProvider, request: ImageRequest, route: ImageRoute) -> None:
    """Raise `UnsupportedParameter`, or its parent, for what `route` cannot honour."""
    upstream = route.upstream
    refused = {
        "size": native_size(request.size, upstream) is None,
        "quality": request.quality not in route.qualities,
        "style": request.style is not None and request.style not in route.styles,
        **{name: name not in upstream.takes for name in _asked_of_openai(request)},
        **dict.fromkeys(request.unknown, not provider.takes_unknown),
    }
    for name, is_refused in refused.items():
        if is_refused:
            raise UnsupportedParameter(_refusal(name, request, route), param=name)
    most = upstream.prompt_characters
    longest = max(len(_said(text, request, route)) for text in request.prompts)
    if most is not None and longest > most:
        raise InvalidRequest(
            f"Invalid value for 'prompt': '{request.model}' takes at most {most} characters.",
            param="prompt",
        )


def _refusal(name: str, request: ImageRequest, route: ImageRoute) -> str:
    has = {"size": _sizes(route.upstream), "quality": sorted(route.qualities)}
    known = f" It takes {', '.join(has[name])}." if name in has else " Leave it out."
    asked = f" '{request.body[name]}'" if name in has and name in request.body else ""
    return f"'{request.model}' does not support this '{name}'{asked}.{known}"


def _sizes(upstream: ImageUpstream) -> list[str]:
    """Return the sizes that can be asked for, in words."""
    named = dict.fromkeys([*DOCUMENTED_SIZES, *upstream.sizes])
    free = upstream.free_sizes
    if free is None:
        return list(named)
    return [*named, f"other sizes in multiples of {free.multiple_of} up to {free.longest_side}"]


def _asked_of_openai(request: ImageRequest) -> list[str]:
    asked = {name: request.body.get(name) for name in OF_OPENAI}
    return [name for name, value in asked.items() if isinstance(value, str) and value != "auto"]


def native_size(size: Size, upstream: ImageUpstream) -> Size | None:
    """Return the size to have made for `size`: itself, or the nearest larger one to scale down.

    None where the model does not have it, and it is not one that every model has here.
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
    # All that are documented are squares: of those as large, the one of their shape.
    return min(larger, key=lambda native: (native.width != native.height, native), default=None)


def wanted(request: ImageRequest, route: ImageRoute, count: int) -> Wanted:
    """Return `count` images of a `request` for one prompt that `check` has let through."""
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
    return Wanted(_said(request.prompt, request, route), count, sent)


def _said(prompt: str, request: ImageRequest, route: ImageRoute) -> str:
    """Return a prompt with what stands in for a style that the model does not have."""
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


def drawn(found: Sequence[Picture | LikeDoError], count: int, missing: LikeDoError) -> Drawn:
    """Return `count` outcomes: those `found`, and `missing` for each that is not there.

    Raises the first error where there is no image among them.
    """
    outcomes = [*found[:count], *[missing] * (count - len(found))]
    if not any(isinstance(outcome, Picture) for outcome in outcomes):
        raise next(outcome for outcome in outcomes if isinstance(outcome, LikeDoError))
    return Drawn(outcomes)
