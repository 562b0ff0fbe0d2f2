"""Build the ONNX graph: it names values and nodes after Caffe's blobs and layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.caffe.dims import Dims

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tensor:
    """A value of the graph.

    Attributes:
        value: The value.
        dims: Its sizes, as far as they are known.
        constant: What it holds, where that is known.
        indices: Of the mask of a pooling the places in the whole blob, which MaxUnpool reads.
    """

    value: ir.Value
    dims: Dims
    constant: Array | None = None
    indices: Tensor | None = None

    @property
    def rank(self) -> int:
        """How many dimensions it has."""
        return len(self.dims)


class Builder:
    """A graph in the making.

    The last version of a blob keeps the blob's name; earlier ones, which layers overwrite in
    place, are called ``BLOB/LAYER``. So names are given at the end, when it is known which is
    the last.

    Args:
        opset: The ai.onnx opset.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.blobs: dict[str, Tensor] = {}
        self.inputs: list[ir.Value] = []
        self._input_names: set[str] = set()
        self._nodes: list[ir.Node] = []
        self._initializers: dict[str, ir.Value] = {}
        self._labels: dict[ir.Value, str] = {}
        self._fresh: set[ir.Value] = set()
        self._names = _Names()
        self._node_names = _Names()

    def add_input(self, name: str, dims: Dims) -> None:
        """Add a float32 input; it is the blob of that name."""
        value = _value(dims, ir.DataType.FLOAT)
        value.name = name
        self._names.reserve([name])
        self.inputs.append(value)
        self._input_names.add(name)
        self.blobs[name] = Tensor(value, dims)

    def add_initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Add a tensor under its own name, which is free."""
        value = ir.Value(
            name=tensor.name,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self._initializers[tensor.name or ""] = value
        return value

    def free_name(self, wanted: str) -> str:
        """Return ``wanted``, or it with a number where it is taken; it is taken from now on."""
        return self._names.take(wanted)

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names, those of blobs, from helpers."""
        self._names.reserve(names)

    def add_node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, Any],
        outputs: Sequence[tuple[Dims, ir.DataType]],
        label: str,
    ) -> list[ir.Value]:
        """Add a node; ``label`` names it and its outputs unless they turn out to be blobs."""
        values = [_value(dims, dtype) for dims, dtype in outputs]
        node = ir.node(op_type, inputs, attributes, outputs=values, name=label)
        self._nodes.append(node)
        self._labels.update(dict.fromkeys(values, label))
        self._fresh.update(values)
        return values

    def make_blob(self, name: str, tensor: Tensor, layer: str) -> None:
        """Let a layer make (a new version of) a blob."""
        self.blobs[name] = tensor
        producer = tensor.value.producer()
        if tensor.value in self._fresh and producer is not None:
            self._fresh.remove(tensor.value)
            self._labels[tensor.value] = f"{name}/{layer}"
            if tensor.value is producer.outputs[0]:
                producer.name = layer

    def end_layer(self) -> None:
        """Tell that what was made so far belongs to layers that are done."""
        self._fresh.clear()

    def finish(self, name: str, outputs: Sequence[str]) -> ir.Model:
        """Return the model.

        Args:
            name: The graph's name.
            outputs: The blobs that come out.

        Raises:
            SmithError: There are none.
        """
        if not outputs:
            raise SmithError("nothing comes out of the network", "give a network that has a top")
        results = [self._output(blob) for blob in outputs]
        self._drop_unused(results)
        for blob, tensor in self.blobs.items():
            if tensor.value.name is None and not self._is_input(blob):
                tensor.value.name = blob
        for node in self._nodes:
            node.name = self._node_names.take(node.name or "")
            for value in node.outputs:
                if value.name is None:
                    value.name = self.free_name(self._labels[value])
        graph = ir.Graph(
            self.inputs,
            results,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": self.opset},
            name=name,
        )
        return ir.Model(graph, ir_version=10, producer_name="onnxsmith")

    def _output(self, blob: str) -> ir.Value:
        """Return the blob's value under the blob's name, by an Identity where it has another."""
        value = self.blobs[blob].value
        if value.const_value is not None:
            attributes = {"value": value.const_value}
            (value,) = self.add_node("Constant", (), attributes, [_signature(value)], blob)
        elif value.name is not None:
            (value,) = self.add_node("Identity", (value,), {}, [_signature(value)], blob)
        if not self._is_input(blob):  # else a layer overwrote the input in place
            value.name = blob
        elif value.name is None:
            value.name = self.free_name(self._labels[value])
        return value

    def _is_input(self, name: str) -> bool:
        return name in self._input_names

    def _drop_unused(self, results: Sequence[ir.Value]) -> None:
        kept = set(results)
        for node in reversed(self._nodes):
            if not any(value in kept or value.uses() for value in node.outputs):
                for at in range(len(node.inputs)):
                    node.replace_input_with(at, None)
        self._nodes = [
            node
            for node in self._nodes
            if any(value in kept or value.uses() for value in node.outputs)
        ]
        self._initializers = {n: v for n, v in self._initializers.items() if v.uses()}


def shape_of(dims: Dims) -> ir.Shape:
    """Return sizes as ONNX's shape."""
    return ir.Shape([dim if isinstance(dim, int) else str(dim) for dim in dims])


def _value(dims: Dims, dtype: ir.DataType) -> ir.Value:
    return ir.Value(shape=shape_of(dims), type=ir.TensorType(dtype))


def _signature(value: ir.Value) -> tuple[Dims, ir.DataType]:
    assert value.shape is not None  # every value is made with a shape and a type
    assert value.dtype is not None
    return tuple(d if isinstance(d, int) else 0 for d in value.shape), value.dtype


class _Names:
    """Names that are taken."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def reserve(self, names: Iterable[str]) -> None:
        """Take names that may be taken already."""
        self._taken.update(names)

    def take(self, wanted: str) -> str:
        """Return ``wanted``, or it with a number where it is taken; it is taken from now on."""
        name = wanted
        while name in self._taken:
            # Numbers go on where they ended: a file may use one name ten thousand times.
            self._last[wanted] = self._last.get(wanted, 1) + 1
            name = f"{wanted}_{self._last[wanted]}"
        self._taken.add(name)
        return name
