"""The forms that an output of Replicate's may have."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from providers.replicate import image_urls

ADDRESSES = st.sampled_from(["https://a.example/0.png", "http://b.example/1", "data:image/png;,"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | ADDRESSES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["url", "images", "seed"]), inner, max_size=3)
    ),
)


@given(ANYTHING)
def test_no_form_of_an_output_is_too_odd(output: Any) -> None:
    found = image_urls(output)

    assert Counter(found) <= Counter(addresses_in(output))


def addresses_in(value: Any) -> Iterator[str]:
    """Yield every address anywhere in `value`."""
    if isinstance(value, str) and value.startswith(("https://", "http://", "data:")):
        yield value
    within = value.values() if isinstance(value, dict) else value
    for inner in within if isinstance(value, dict | list) else ():
        yield from addresses_in(inner)


@given(st.lists(ADDRESSES | st.none() | st.text(alphabet="ab ")))
def test_a_lists_addresses_keep_their_order(output: list[str | None]) -> None:
    assert image_urls(output) == [item for item in output if item and ":" in item]


@given(ADDRESSES)
def test_one_address_may_be_alone_or_in_an_object(url: str) -> None:
    forms = [url, [url], {"url": url}, {"images": [url], "seed": 5}, {"images": [{"url": url}]}]

    assert [image_urls(form) for form in forms] == [[url]] * len(forms)
