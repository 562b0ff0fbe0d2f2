"""Signatures as text and as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.spec import Dim, ModelSpec, ValueSpec, parse_dims

names = st.text(st.characters(categories=("L", "N"), include_characters="/.:_ "), min_size=1)
symbols = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
dims = st.one_of(st.integers(0, 10**9), symbols, st.none())


@given(names, st.sampled_from(["float32", "int64", "bfloat16", "bool"]), st.lists(dims, max_size=4))
def test_parse_reads_what_print_wrote(name: str, dtype: str, shape: list[Dim]) -> None:
    text = f"{name}:{dtype}[{','.join('?' if d is None else str(d) for d in shape)}]"
    spec = ValueSpec.parse(text)
    assert spec == ValueSpec(name, dtype, tuple(shape))
    assert str(spec).replace(f"{name}: ", f"{name}:", 1) == text


@pytest.mark.parametrize(
    "text", ["", "x", "x:float32", ":float32[1]", "x:[1]", "x:float32[1", "x:F[]"]
)
def test_other_forms_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the input"):
        ValueSpec.parse(text)


def test_concrete_prefers_names_and_then_the_default() -> None:
    spec = ValueSpec("x", "float32", ("N", 3, None, "M"))
    assert spec.concrete({"N": 8, "other": 9}, 2) == (8, 3, 2, 2)
    with pytest.raises(SmithError, match="shape of 'x' is unknown"):
        ValueSpec("x", "float32", None).concrete({}, 2)


def test_a_sum_of_dimensions_follows_its_parts() -> None:
    """The mask of a decoder covers the tokens seen and the new ones."""
    spec = ValueSpec("mask", "int64", ("batch", "past + sequence"))
    assert spec.concrete({"past": 5, "sequence": 3}, 2) == (2, 8)
    assert spec.concrete({"past": 5}, 2) == (2, 7)
    assert spec.concrete({"past + sequence": 9, "past": 5}, 2) == (2, 9)
    model = ModelSpec((spec, ValueSpec("past", "float32", ("past", "sequence"))), ())
    half = model.with_dims({"past": 5}).input("mask")
    assert half.shape == ("batch", "5 + sequence")
    assert half.concrete({"sequence": 3}, 2) == (2, 8)
    assert model.with_dims({"past": 5, "sequence": 3}).input("mask").shape == ("batch", 8)
    assert ValueSpec("x", "int64", ("n+m",)).concrete({"n": 3, "m": 3}, 2) == (2,)


MODEL = ModelSpec(
    (ValueSpec("x", "float32", ("N", 3)), ValueSpec("s", "int64", None)),
    (ValueSpec("y", "float32", ("N", "M")),),
)


def test_with_dims_fixes_inputs_and_outputs() -> None:
    fixed = MODEL.with_dims({"N": 4})
    assert fixed.input("x").shape == (4, 3)
    assert fixed.input("s").shape is None
    assert fixed.output("y").shape == (4, "M")
    with pytest.raises(SmithError, match="no dimension 'M'") as caught:
        MODEL.with_dims({"M": 2})
    assert caught.value.hint == "its dimensions: N"


def test_unknown_names_are_errors_that_list_the_known() -> None:
    with pytest.raises(SmithError, match="no input 'y'") as caught:
        MODEL.input("y")
    assert caught.value.hint == "its inputs: 'x', 's'"
    with pytest.raises(SmithError, match="no output 'x'"):
        MODEL.output("x")


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 10**9), max_size=4))
def test_dims_round_trip(expected: dict[str, int]) -> None:
    assert parse_dims([f"{name}={size}" for name, size in expected.items()]) == expected


@pytest.mark.parametrize("text", ["N", "N=", "=3", "N=0", "N=-1", "N=1.5", "N=\u0663", "N=1=x"])
def test_impossible_dims_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the dimension"):
        parse_dims([text])


@pytest.mark.parametrize(
    ("kind", "ending"), [("tensor", "[N]"), ("sequence", "[N] (sequence)"), ("map", "[N] (map)")]
)
def test_print_says_the_kind(kind: str, ending: str) -> None:
    assert str(ValueSpec("x", "float32", ("N",), kind)).endswith(ending)  # type: ignore[arg-type]
