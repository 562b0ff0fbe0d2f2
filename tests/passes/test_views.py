# ruff: noqa: E501 - a graph is easier read in one line
"""What a value is a view of, told against numpy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.views import Atom, View, trace

Array = np.ndarray[Any, Any]


def places(view: View) -> Array:
    """Return for each element of a view its place in the root."""
    assert view.root.shape is not None
    sizes = [int(size) for size in view.root.shape.numpy()]
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    found: Array = np.array(sum(s * t for s, t in zip(view.starts, strides, strict=True)))
    for dim in view.dims:
        steps: Array = np.zeros(1, np.int64)
        for atom in dim:
            assert isinstance(atom.size, int)
            inner = np.arange(atom.size) * atom.stride * strides[atom.axis]
            steps = (steps[:, None] + inner).reshape(-1)
        found = found[..., None] + steps
    return found


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[int], list[ir.Node], ir.Value, Array]:
    """Return a shape, nodes from it, the last value, and the places that it holds."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    value = ir.Value(name="x", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    array: Array = np.arange(math.prod(shape)).reshape(shape)
    nodes: list[ir.Node] = []
    for _ in range(draw(st.integers(1, 5))):
        known = ["Reshape", "Transpose", "Gather", "Slice", "Unsqueeze"]
        kind = draw(st.sampled_from(known if array.ndim else ["Reshape", "Unsqueeze"]))
        inputs, attributes, array = step(draw, kind, array)
        tensors = [ir.Value(name="c", const_value=ir.Tensor(np.array(i))) for i in inputs]
        node = ir.node(kind, [value, *tensors], attributes)
        value = node.outputs[0]
        value.shape = ir.Shape(array.shape)
        nodes.append(node)
    return shape, nodes, value, array


def step(draw: st.DrawFn, kind: str, array: Array) -> tuple[list[Any], dict[str, Any], Array]:
    axis = draw(st.integers(0, max(array.ndim - 1, 0)))
    if kind == "Transpose":
        perm = draw(st.permutations(range(array.ndim)))
        return [], {"perm": list(perm)}, array.transpose(perm)
    if kind == "Unsqueeze":
        return [[axis]], {}, np.expand_dims(array, axis)
    if kind == "Gather":
        index = draw(st.integers(-array.shape[axis], array.shape[axis] - 1))
        return [index], {"axis": axis}, array.take(index, axis)
    if kind == "Slice":
        first = draw(st.integers(0, array.shape[axis] - 1))
        last = draw(st.integers(first + 1, array.shape[axis]))
        return [[first], [last], [axis]], {}, array.take(range(first, last), axis)
    factors = [f for f in (2, 2, 3) if draw(st.booleans())]
    rest, shape = array.size, []
    for factor in factors:
        if rest % factor == 0:
            shape.append(factor)
            rest //= factor
    shape.insert(draw(st.integers(0, len(shape))), rest)
    return [shape], {}, array.reshape(shape)


@settings(deadline=None, max_examples=150)
@given(chain=chains())
def test_views_are_where_numpy_finds_them(
    chain: tuple[list[int], list[ir.Node], ir.Value, Array],
) -> None:
    shape, _, value, array = chain
    view = trace(value)
    assert view is not None
    found = places(view)
    if view.root.name == "x":
        np.testing.assert_array_equal(found, array)
        assert list(view.root.shape or ()) == shape
    else:  # it could not be followed to its start, but its elements are still told apart
        assert found.shape == array.shape
        assert len(np.unique(found)) == array.size


def last_value(artifact: Artifact) -> ir.Value:
    model = InferShapes().apply(artifact.model.clone(), PassContext()).model
    return model.graph.outputs[0]


@pytest.mark.parametrize(
    ("text", "root", "dims", "starts"),
    [
        (
            "g (float[N,3,24] x) => (float[N,2,3,4] y) <int64[5] s = {0, 3, 3, 2, 4}, int64 one = {1}> "
            "{ r = Reshape(x, s) t = Transpose<perm = [2, 0, 3, 1, 4]>(r) y = Gather(t, one) }",
            "x",
            ["N", (2, 2, 4), (3, 1, 1), (4, 2, 1)],
            (0, 0, 8),
        ),
        (
            "g (float[N,3,9] x) => (float[N,3,4] y) <int64[2] n = {5, 4}> { a, y = Split<axis = 2>(x, n) }",
            "x",
            ["N", (3, 1, 1), (4, 2, 1)],
            (0, 0, 5),
        ),
        # Every second element: a slice with steps is where it begins.
        (
            "g (float[4] x) => (float[2] y) <int64[1] a = {0}, int64[1] b = {4}, int64[1] s = {2}> { y = Slice(x, a, b, a, s) }",
            "y",
            [(2, 0, 1)],
            (0,),
        ),
        # Two sizes that are known by name only cannot be told apart in a product.
        (
            "g (float[N,M] x, int64[2] s) => (float[A,B] y) { y = Reshape(x, s) }",
            "y",
            ["A", "B"],
            (0, 0),
        ),
        # The last four of six cross the border between two rows of three.
        (
            "g (float[3,2] x) => (float[4] y) <int64[1] s = {6}, int64[1] a = {1}, int64[1] b = {5}, int64[1] z = {0}> "
            "{ t = Transpose<perm = [1, 0]>(x) r = Reshape(t, s) y = Slice(r, a, b, z) }",
            "y",
            [(4, 0, 1)],
            (0,),
        ),
    ],
)
def test_views_are_told_by_their_factors(
    text: str,
    root: str,
    dims: list[Any],
    starts: tuple[int, ...],
    load_text: Callable[..., Artifact],
) -> None:
    view = trace(last_value(load_text(text, opset=20)))
    assert view is not None
    found = [
        atoms[0].size.value if isinstance(atoms[0].size, ir.SymbolicDim) else atoms[0]
        for atoms in view.dims
    ]
    assert view.root.name == root
    assert found == [Atom(*dim) if isinstance(dim, tuple) else dim for dim in dims]
    assert view.starts == starts


def test_values_of_unknown_rank_are_no_views() -> None:
    assert trace(ir.Value(name="x")) is None
    assert trace(ir.Value(name="x", shape=ir.Shape([0, 3]))) is None
