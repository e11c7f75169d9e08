"""JSON is decoded if its nodes and levels are bounded, whatever is in its strings."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import bounded_json
from models.bounded_json import SLICE_BYTES, Bounds, TooComplex

texts = st.text(alphabet='a",:[]{}\\ \n\u00e9')
values = st.recursive(
    st.none() | st.integers(0, 9) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=30,
)


def nodes(value: Any) -> int:
    """Return how many values and names there are; an empty list or object counts for two."""
    match value:
        case dict():
            return 1 + max(1, sum(1 + nodes(inner) for inner in value.values()))
        case list():
            return 1 + max(1, sum(map(nodes, value)))
        case _:
            return 1


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(value, dict | list) else 0


@given(values, st.sampled_from([0, orjson.OPT_INDENT_2]))
def test_exactly_what_is_within_the_bounds_is_decoded(value: Any, style: int) -> None:
    raw = orjson.dumps(value, option=style)
    bounds = Bounds(nodes(value), depth(value))

    assert bounded_json.loads(raw, bounds) == value
    for less in (Bounds(bounds.nodes - 1, bounds.depth), Bounds(bounds.nodes, bounds.depth - 1)):
        if less.nodes and less.depth >= 0:
            with pytest.raises(TooComplex):
                bounded_json.loads(raw, less)


@pytest.mark.parametrize("character", ["\\", '"', "[", ",", "é", '\\"'])
def test_a_string_of_any_length_is_one_node_wherever_it_is_cut(character: str) -> None:
    for shift in range(3):
        value = ["a" * shift, character * (2 * SLICE_BYTES), [[]]]

        assert bounded_json.loads(orjson.dumps(value), Bounds(6, 3)) == value


@pytest.mark.parametrize(
    "raw", [b"[" * 300_000, b'"' * 900_000, b"[]" * 300_000, b"]" * 300_000, b"[,:" * 90_000]
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        bounded_json.loads(raw)
