"""What a layer sees while it is turned into ONNX: its bottoms, settings and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.caffe.builder import Array, Builder, Tensor
from onnxsmith.pipeline.frontends.caffe.caffemodel import Blob, Caffemodel
from onnxsmith.pipeline.frontends.caffe.dims import (
    MAX_ELEMENTS,
    Dim,
    Dims,
    Product,
    UnknownSizeError,
    count,
    symbol,
)
from onnxsmith.pipeline.frontends.caffe.message import Message
from onnxsmith.pipeline.frontends.caffe.net import Layer

FLOAT, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.BOOL
_MAX_RANK = 32
# What is computed here rather than by the runtime (prior boxes) stays below this many values.
_MAX_CONSTANT = 4 * 1024**2


@dataclass
class Weights:
    """The weights that the layers take from.

    Attributes:
        model: The file; None where there is none.
        hint: How to get the file, for the error about a layer that needs it.
        shared: Layer and place of each array that layers share, by its name.
        made: The initializers that there are.
    """

    model: Caffemodel | None
    hint: str
    shared: dict[str, tuple[str, int]] = field(default_factory=dict)
    made: dict[tuple[Blob, tuple[int, ...]], Tensor] = field(default_factory=dict)


class Scope:
    """One layer in its network.

    Args:
        layer: The layer.
        bottoms: What it reads.
        builder: The graph.
        weights: The network's weights.
        batch: The size that the file declares for the batch, where the batch is left open.
    """

    def __init__(
        self,
        layer: Layer,
        bottoms: Sequence[Tensor],
        builder: Builder,
        weights: Weights,
        batch: int | None,
    ) -> None:
        self.layer = layer
        self.bottoms = tuple(bottoms)
        self.builder = builder
        self.batch = batch
        self.warnings: list[str] = []
        self._weights = weights
        self._symbols = 0

    @property
    def opset(self) -> int:
        """The ai.onnx opset."""
        return self.builder.opset

    def param(self, name: str) -> Message:
        """Return the layer's settings of that name, such as ``pooling_param``."""
        message = self.layer.message.message(name)
        message.name = f"layer {self.layer.name!r} ({self.layer.type})"
        return message

    def refuse(self, reason: str, hint: str) -> SmithError:
        """Return the error that says why this layer does not come in."""
        return SmithError(f"layer {self.layer.name!r} ({self.layer.type}): {reason}", hint)

    def bottom(self, fewest: int = 1, most: int = 1) -> Tensor:
        """Return the first bottom.

        Raises:
            SmithError: The layer reads fewer or more blobs than it may.
        """
        found = len(self.bottoms)
        if not fewest <= found <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise self.refuse(f"it reads {found} blobs instead of {wanted}", "mend the .prototxt")
        return self.bottoms[0]

    def axis(self, axis: int, rank: int, *, end: bool = False) -> int:
        """Return an axis counted from the front.

        Args:
            axis: As written; negative counts from behind.
            rank: How many dimensions there are.
            end: Whether the axis may stand behind the last.

        Raises:
            SmithError: There is no such axis.
        """
        found = axis + rank + (1 if end and axis < 0 else 0) if axis < 0 else axis
        if not 0 <= found < rank + end:
            raise self.refuse(f"there is no axis {axis} of {rank}", "mend the .prototxt")
        return found

    def known(self, dims: Sequence[Dim]) -> tuple[int, ...]:
        """Return sizes that have to be numbers.

        Raises:
            UnknownSizeError: One is not.
        """
        found = []
        for dim in dims:
            if isinstance(dim, Product):
                raise UnknownSizeError(
                    f"layer {self.layer.name!r} ({self.layer.type}) needs the size {dim}"
                )
            found.append(dim)
        return tuple(found)

    def unknown(self) -> Product:
        """Return a size that only the runtime knows."""
        self._symbols += 1
        suffix = "" if self._symbols == 1 else f"_{self._symbols}"
        return symbol(f"{self.layer.name}_size{suffix}")

    def check(self, dims: Dims) -> None:
        """Refuse sizes that no blob has.

        Raises:
            SmithError: There are too many dimensions or values.
        """
        total = count(dims)
        times = total if isinstance(total, int) else total.times
        if len(dims) > _MAX_RANK:
            raise self.refuse(
                f"it makes a blob of {len(dims)} dimensions", "Caffe takes 32 at most"
            )
        if times > MAX_ELEMENTS or any(isinstance(dim, int) and dim < 0 for dim in dims):
            shown = "x".join(map(str, dims))
            raise self.refuse(f"it would make a blob of {shown[:60]} values", "mend the sizes")

    def op(
        self,
        op_type: str,
        inputs: Sequence[Tensor | None],
        dims: Dims,
        attributes: dict[str, Any] | None = None,
        dtype: ir.DataType = FLOAT,
    ) -> Tensor:
        """Add a node with one output of the given sizes."""
        (found,) = self.ops(op_type, inputs, [dims], attributes, dtype)
        return found

    def ops(
        self,
        op_type: str,
        inputs: Sequence[Tensor | None],
        dims: Sequence[Dims],
        attributes: dict[str, Any] | None = None,
        *dtypes: ir.DataType,
    ) -> list[Tensor]:
        """Add a node with several outputs of the given sizes."""
        for one in dims:
            self.check(one)
        types = dtypes if len(dtypes) == len(dims) else (dtypes or (FLOAT,)) * len(dims)
        values = self.builder.add_node(
            op_type,
            [None if tensor is None else tensor.value for tensor in inputs],
            attributes or {},
            list(zip(dims, types, strict=True)),
            f"{self.layer.name}/{op_type.lower()}",
        )
        return [Tensor(value, one) for value, one in zip(values, dims, strict=True)]

    def reduce(
        self, op_type: str, tensor: Tensor, axes: Sequence[int], *, keep: bool = True
    ) -> Tensor:
        """Add a reduction (ReduceSum, ReduceMean, ...) over some axes."""
        dims = tuple(
            1 if at in axes else dim for at, dim in enumerate(tensor.dims) if keep or at not in axes
        )
        if self.opset >= 18 or op_type == "ReduceSum":
            inputs = [tensor, self.integers(axes, "axes")]
            return self.op(op_type, inputs, dims, {"keepdims": int(keep)})
        return self.op(op_type, [tensor], dims, {"keepdims": int(keep), "axes": list(axes)})

    def reshape(self, tensor: Tensor, dims: Dims) -> Tensor:
        """Add a Reshape; at most one size may be unknown and not that of the same axis before.

        Raises:
            UnknownSizeError: More are.
        """
        if dims == tensor.dims:
            return tensor
        target = []
        for at, dim in enumerate(dims):
            if isinstance(dim, int):
                target.append(dim)
            elif at < tensor.rank and tensor.dims[at] == dim:
                target.append(0)
            else:
                target.append(-1)
        if target.count(-1) > 1:
            self.known([dim for at, dim in enumerate(dims) if target[at] == -1])
        return self.op("Reshape", [tensor, self.integers(target, "shape")], dims)

    def flatten(self, tensor: Tensor, axis: int) -> Tensor:
        """Add a Flatten before and from ``axis``, unless it changes nothing."""
        dims = (count(tensor.dims[:axis]), count(tensor.dims[axis:]))
        if dims == tensor.dims:
            return tensor
        return self.op("Flatten", [tensor], dims, {"axis": axis} if axis != 1 else None)

    def integers(self, values: Sequence[int], label: str) -> Tensor:
        """Add whole numbers as a constant."""
        return self.constant(np.array(values, np.int64), label)

    def scalar(self, value: float, label: str) -> Tensor:
        """Add a number as a constant."""
        return self.constant(np.array(value, np.float32), label)

    def floats(self, values: Sequence[float], label: str) -> Tensor:
        """Add numbers as a constant."""
        return self.constant(np.array(values, np.float32), label)

    def shape_like(self, tensor: Tensor) -> Tensor:
        """Add a Shape: the sizes at run time."""
        return self.op("Shape", [tensor], (tensor.rank,), dtype=INT64)

    def constant(self, array: Array, label: str) -> Tensor:
        """Add a constant, called ``LAYER/LABEL``."""
        name = self.builder.free_name(f"{self.layer.name}/{label}")
        value = self.builder.add_initializer(ir.tensor(array, name=name))
        return Tensor(value, array.shape, array)

    def check_constant(self, values: int) -> None:
        """Refuse to compute a constant of more values than any network has.

        Raises:
            SmithError: It would be larger.
        """
        if values > _MAX_CONSTANT:
            raise self.refuse(
                f"it makes a constant of {values:,} values", "give inputs of an ordinary size"
            )

    @property
    def blob_count(self) -> int:
        """How many arrays of weights the layer has."""
        count = 0
        while self._find(count) is not None:
            count += 1
        return count

    def weight(self, index: int, shape: tuple[int, ...], label: str) -> Tensor:
        """Return an array of weights, which stays in its file where it can.

        Args:
            index: Its place among the layer's blobs.
            shape: The shape that the network asks for.
            label: What it is: ``weight``, ``bias``.

        Raises:
            SmithError: The layer has no such array, or it has another number of values.
        """
        owner, blob = self._checked(index, shape, label)
        if (blob, shape) in self._weights.made:
            return self._weights.made[blob, shape]
        name = self.builder.free_name(f"{owner}/{label}")
        assert self._weights.model is not None  # there is a blob
        tensor: ir.TensorProtocol | None = self._weights.model.tensor(blob, shape, name)
        if tensor is None:
            tensor = ir.tensor(self._weights.model.array(blob).reshape(shape), name=name)
        made = Tensor(self.builder.add_initializer(tensor), shape)
        self._weights.made[blob, shape] = made
        return made

    def array(self, index: int, shape: tuple[int, ...], label: str) -> Array:
        """Return an array of weights in memory: for small ones that are computed with.

        Raises:
            SmithError: The layer has no such array, or it has another number of values.
        """
        _, blob = self._checked(index, shape, label)
        assert self._weights.model is not None  # there is a blob
        return self._weights.model.array(blob).reshape(shape)

    def _checked(self, index: int, shape: tuple[int, ...], label: str) -> tuple[str, Blob]:
        if self._weights.model is None:
            raise self.refuse("its weights are missing", self._weights.hint)
        self.check(shape)
        found = self._find(index)
        if found is None:
            raise self.refuse(
                f"{self._weights.model.path.name} holds no {label} for it",
                "give the .caffemodel of this network with --weights FILE",
            )
        values = math.prod(shape)
        if found[1].values != values:
            raise self.refuse(
                f"its {label} has {found[1].values} values, and the network needs "
                f"{'x'.join(map(str, shape))} = {values}",
                "the .prototxt and the .caffemodel do not belong together",
            )
        return found

    def _find(self, index: int) -> tuple[str, Blob] | None:
        """Return an array and the layer that owns it: layers may share them by name."""
        if self._weights.model is None:
            return None
        own = self._weights.model.blobs.get(self.layer.name, ())
        if index < len(own):
            return self.layer.name, own[index]
        names = [param.text("name") for param in _specs(self.layer)]
        if index < len(names) and names[index] in self._weights.shared:
            owner, at = self._weights.shared[names[index]]
            blobs = self._weights.model.blobs.get(owner, ())
            return (owner, blobs[at]) if at < len(blobs) else None
        return None

    def share(self) -> None:
        """Offer the layer's arrays to later layers that name them."""
        for index, param in enumerate(_specs(self.layer)):
            if name := param.text("name"):
                self._weights.shared.setdefault(name, (self.layer.name, index))


def _specs(layer: Layer) -> list[Message]:
    """Return the layer's ``param`` messages; old files have a list of names there."""
    values = layer.message.values("param")
    found = []
    for value in values:
        if isinstance(value, Message):
            found.append(value)
        else:
            named = Message("param")
            named.add("name", value)
            found.append(named)
    return found
