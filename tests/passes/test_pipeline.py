"""Pipelines as text: what is printed can be read, what cannot be read is explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxsmith.errors import UsageError
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.table import PRESETS


@dataclass(frozen=True)
class Optioned(Pass):
    """Has an option of each kind."""

    name: ClassVar[str] = "optioned"

    flag: bool = False
    count: int = 3
    share: float = 0.5
    kind: Literal["a", "b-c"] = "a"
    text_value: str = ""
    names: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        return PassResult(model, False)


words = st.from_regex(r"[A-Za-z0-9_./-]+", fullmatch=True)
optioned = st.builds(
    Optioned,
    flag=st.booleans(),
    count=st.integers(-(10**12), 10**12),
    share=st.floats(allow_nan=False, allow_infinity=False),
    kind=st.sampled_from(["a", "b-c"]),
    text_value=st.one_of(st.just(""), words),
    names=st.lists(words, max_size=3).map(tuple),
)


@given(st.lists(optioned, min_size=1, max_size=3))
def test_print_and_parse_are_inverse(passes: list[Optioned]) -> None:
    pipeline = PassPipeline(tuple(passes))
    text = str(pipeline)
    for pass_, word in zip(passes, text.split(","), strict=True):
        options = dict(option.split("=", 1) for option in word.split(":")[1:])
        assert Optioned.from_options(options) == pass_


@pytest.mark.parametrize("name", PRESETS)
def test_presets_print_as_they_are_written(name: str) -> None:
    assert str(PassPipeline.preset(name)) == PRESETS[name]
    assert PassPipeline.parse(PRESETS[name]) == PassPipeline.preset(name)


def test_spaces_and_order() -> None:
    found = PassPipeline.parse(" fold-constants:limit=7 , fuse-gemm,fold-constants ")
    assert str(found) == "fold-constants:limit=7,fuse-gemm,fold-constants"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "the pipeline is empty", "passes list"),
        (" , ", "the pipeline is empty", "passes list"),
        ("fold_constants", "unknown pass 'fold_constants'", "fold-constants"),
        ("zzz", "unknown pass 'zzz'", "known: "),
        ("fold-constants:", "cannot read the option ''", "option=value"),
        ("fold-constants:limit", "cannot read the option 'limit'", "option=value"),
        ("fold-constants:=3", "cannot read the option '=3'", "option=value"),
        ("fold-constants:limit=1:limit=2", "has the option 'limit' twice", "once"),
        ("fold-constants:limt=1", "has no option 'limt'", "'limit'"),
        ("fuse-gemm:x=1", "has no option 'x'", "it has no options"),
        ("fold-constants:limit=1.5", "not a value of type int", "passes show"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        PassPipeline.parse(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("option", "value"), [("flag", "maybe"), ("kind", "c"), ("share", "half"), ("count", "")]
)
def test_values_that_do_not_fit(option: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"optioned: {option}="):
        Optioned.from_options({option: value})


def test_an_unknown_preset_names_the_closest() -> None:
    with pytest.raises(UsageError, match="unknown preset 'gpu'"):
        PassPipeline.preset("gpu")
    with pytest.raises(UsageError) as caught:
        PassPipeline.preset("cudda")
    assert "cuda" in caught.value.hint
