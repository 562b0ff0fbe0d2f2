"""Second moments of what layers read: they say what an error of the weights does to the outputs.

For a linear layer ``y = W x`` and an error ``E`` of its weights, the mean of ``|E x|^2`` over all
samples is ``trace(E H E^T)`` with ``H = mean(x x^T)``. So ``H`` is all that has to be kept of the
samples, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import PassContext
from onnxsmith.passes.match import (
    Array,
    int_attribute,
    ints_attribute,
    is_op,
    tensor_of,
)
from onnxsmith.passes.quantization.calibration.observe import (
    Reduction,
    append,
    observe,
    rows_of,
)

WIDEST = 8192
"""Most numbers that an output may be made of: beyond, H takes more than 256 MB."""

_GROUP_BYTES = 256 << 20
_GROUP_LAYERS = 8
# Positions of a convolution that are looked at in each batch; neighbours tell much the same.
_POSITIONS = 2048


@dataclass(frozen=True)
class Product:
    """A linear layer with constant weights, as matrices.

    Attributes:
        node: Conv, Gemm or MatMul.
        groups: How many groups of channels it has.
        inputs: How many numbers each output is made of.
    """

    node: ir.Node
    groups: int
    inputs: int

    @property
    def weights(self) -> Array:
        """The weights, shape [groups, outputs / groups, inputs]."""
        array = self._tensor.numpy()
        if self.node.op_type == "Conv":
            return array.reshape(self.groups, -1, self.inputs)
        return (array if self._transposed else array.T)[None]

    def restored(self, weights: Array) -> Array:
        """Return weights of that shape as the node takes them."""
        shape = self._tensor.shape.numpy()
        if self.node.op_type == "Conv":
            return weights.reshape(shape)
        return np.ascontiguousarray(weights[0] if self._transposed else weights[0].T)

    @property
    def _tensor(self) -> ir.TensorProtocol:
        tensor = tensor_of(self.node.inputs[1])
        assert tensor is not None  # read_product() looked at it
        return tensor

    @property
    def _transposed(self) -> bool:
        return self.node.op_type == "Gemm" and bool(int_attribute(self.node, "transB", 0))


def read_product(node: ir.Node) -> Product | str:
    """Return a node as a product, or say why it is none."""
    tensor = tensor_of(node.inputs[1])
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return "its weights are not constant float32"
    shape = tensor.shape.numpy()
    if is_op(node, "Conv"):
        if _automatic(node):
            return "its padding is automatic"
        groups = int_attribute(node, "group", 1) or 1
        found = Product(node, groups, int(np.prod(shape[1:])))
    elif len(shape) != 2 or int_attribute(node, "transA", 0):
        return "its weights are no matrix"
    else:
        axis = 1 if int_attribute(node, "transB", 0) else 0
        found = Product(node, 1, int(shape[axis]))
    return found if found.inputs <= WIDEST else f"an output is made of more than {WIDEST} numbers"


def _automatic(node: ir.Node) -> bool:
    attribute = node.attributes.get("auto_pad")
    if attribute is None:
        return False
    return attribute.is_ref() or attribute.as_string() not in ("NOTSET", "VALID")


def second_moments(
    model: ir.Model, products: Sequence[Product], context: PassContext, limit: int
) -> Iterator[tuple[Product, Array]]:
    """Yield each product with its moments, shape [groups, inputs, inputs], float32.

    The samples are gone through once for every 8 layers or 256 MB of moments. Of convolutions
    2048 positions a batch are looked at, drawn with the context's seed.

    Raises:
        SmithError: There are no samples, or the model does not run on them.
    """
    assert context.samples is not None  # passes that calibrate say so in their needs
    for part in _parts(products):
        generator = np.random.default_rng(context.seed)
        sums: dict[Product, Array] = {}
        count = 0
        for _, found in observe(model, _reductions(part), context.samples, limit):
            count += 1
            arrays = {name: iter(results) for name, results in found.items()}
            for product in part:
                added = _moments(product, next(arrays[_source(product)]), generator)
                sums[product] = sums[product] + added if product in sums else added
        for product in part:
            yield product, sums.pop(product) / count


def _parts(products: Sequence[Product]) -> Iterator[list[Product]]:
    part: list[Product] = []
    held = 0
    for product in products:
        size = 4 * product.groups * product.inputs**2
        if part and (held + size > _GROUP_BYTES or len(part) == _GROUP_LAYERS):
            yield part
            part, held = [], 0
        part.append(product)
        held += size
    if part:
        yield part


def _source(product: Product) -> str:
    value = product.node.inputs[0]
    assert value is not None and value.name is not None  # noqa: PT018 - all values have names
    return value.name


def _reductions(products: Sequence[Product]) -> dict[str, Reduction]:
    """Return for each value that is read what to compute from it, one result a product."""
    readers: dict[str, list[Product]] = {}
    for product in products:
        readers.setdefault(_source(product), []).append(product)

    def reduction(found: Sequence[Product]) -> Reduction:
        return lambda graph, value: [_reduced(graph, value, product) for product in found]

    return {name: reduction(found) for name, found in readers.items()}


def _reduced(graph: ir.Graph, value: ir.Value, product: Product) -> ir.Value:
    if product.node.op_type == "Conv":  # the graph has no operator that takes windows out
        return append(graph, "Identity", value)
    rows = rows_of(graph, value, product.inputs)
    return append(graph, "MatMul", append(graph, "Transpose", rows, perm=[1, 0]), rows)


def _moments(product: Product, found: Array, generator: np.random.Generator) -> Array:
    """Return the sum of ``x x^T`` for one batch."""
    if product.node.op_type != "Conv":
        return found[None]
    windows = _windows(product.node, found, generator)
    rows = windows.reshape(len(windows), product.groups, product.inputs).transpose(1, 0, 2)
    # The mean over positions, so that layers of few positions weigh the same in each batch.
    sums: Array = rows.transpose(0, 2, 1) @ rows / len(windows)
    return sums


def _windows(node: ir.Node, x: Array, generator: np.random.Generator) -> Array:
    """Return what a convolution reads at some positions, shape [positions, channels, kernel]."""
    tensor = tensor_of(node.inputs[1])
    assert tensor is not None  # read_product() looked at it
    kernel = tensor.shape.numpy()[2:]
    rank = len(kernel)
    strides = ints_attribute(node, "strides") or [1] * rank
    dilations = ints_attribute(node, "dilations") or [1] * rank
    pads = ints_attribute(node, "pads") or [0] * (2 * rank)
    around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    padded = np.pad(x, around)
    sizes = [
        (padded.shape[axis + 2] - (kernel[axis] - 1) * dilations[axis] - 1) // strides[axis] + 1
        for axis in range(rank)
    ]
    total = len(x) * int(np.prod(sizes))
    chosen = np.arange(total)
    if total > _POSITIONS:
        chosen = generator.choice(total, _POSITIONS, replace=False)
    batch, *places = np.unravel_index(chosen, (len(x), *sizes))
    columns = []
    for offset in np.ndindex(*kernel):
        index = tuple(
            place * stride + step * dilation
            for place, stride, step, dilation in zip(
                places, strides, offset, dilations, strict=True
            )
        )
        columns.append(padded[(batch, slice(None), *index)])
    return np.stack(columns, axis=2)


def mean_error(moments: Array, errors: Array) -> float:
    """Return the mean square of the outputs' error that errors of the weights make.

    Args:
        moments: Shape [groups, inputs, inputs].
        errors: Shape [groups, inputs, outputs / groups].
    """
    return float(np.einsum("gio,gio->", moments @ errors, errors, dtype=np.float64))
