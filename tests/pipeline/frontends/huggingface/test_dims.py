"""Dimensions get the names of the inputs, wherever torch's symbols stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from onnxsmith.pipeline.frontends.huggingface.dims import FixedDimensionError, name_dimensions

TEXT = """g (float[s1,4,s3] past, float[s1,s2] mask, float[s1,s13] fresh)
    => (float[s1,4,s3] present, float[s1,s2] doubled) {
    present = Identity(past)
    wide = Concat<axis=1>(mask, mask)
    other = Identity(fresh)
    doubled = Identity(mask)
}"""
INPUTS: dict[str, tuple[int | str | None, ...]] = {
    "past": ("batch", 4, "past"),
    "mask": ("batch", "past + new"),
    "fresh": ("batch", "new"),
}


@pytest.fixture
def model(parse_model: Callable[..., onnx.ModelProto]) -> ir.Model:
    found = ir.from_proto(parse_model(TEXT))
    shapes: dict[str, list[Any]] = {"wide": ["s1", "2*s2"], "other": ["s1", "s13 + s3"]}
    for node in found.graph:
        for value in node.outputs:
            if value.name in shapes:
                value.shape = ir.Shape(shapes[value.name])
    return found


def shape(model: ir.Model, name: str) -> list[int | str | None]:
    values = [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]
    found = next(value for value in values if value.name == name)
    return [d if isinstance(d, int) else d.value for d in found.shape or ()]


def test_names_stand_for_symbols_everywhere(model: ir.Model) -> None:
    name_dimensions(model, INPUTS, {"present": ("batch", 4, "past + new")})
    assert shape(model, "mask") == ["batch", "past + new"]
    assert shape(model, "wide") == ["batch", "2*(past + new)"]
    assert shape(model, "other") == ["batch", "new + past"]
    assert shape(model, "doubled") == ["batch", "past + new"]
    assert shape(model, "present") == ["batch", 4, "past + new"]


def test_a_number_in_place_of_a_name_is_an_error(model: ir.Model) -> None:
    with pytest.raises(FixedDimensionError, match="fixed: heads") as caught:
        name_dimensions(model, {**INPUTS, "past": ("batch", "heads", "past")}, {})
    assert caught.value.names == ("heads",)
