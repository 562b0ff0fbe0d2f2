"""Put adapters beside the weights of a model, to be trained in their place."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.autodiff.path import FLOATS
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.passes.lora.adapter import FIRST, SECOND
from onnxsmith.passes.match import STANDARD, add_constant, is_op


@dataclass(frozen=True)
class LoraOptions:
    """Which weights get adapters, and how large ones.

    Attributes:
        rank: The smaller size of the factors.
        alpha: The change is ``alpha / rank`` times their product.
        target: Patterns of weights or of the nodes that read them.
    """

    rank: int = 8
    alpha: float = 16.0
    target: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"rank={self.rank} is not positive", "write rank=8")

    @property
    def scale(self) -> float:
        """The factor of the product."""
        return self.alpha / self.rank


def insert_adapters(model: ir.Model, options: LoraOptions, seed: int = 0) -> list[str]:
    """Add ``scale * second(first(x))`` to what matrix products and convolutions give.

    The first factors are random, the second zero, so that the model computes at first what it did.

    Args:
        model: It is edited.
        options: Which weights, and how large.
        seed: Of the first factors.

    Returns:
        The weights that have adapters; the factors are initializers called ``WEIGHT.lora_a`` and
        ``WEIGHT.lora_b``.

    Raises:
        SmithError: No weight that an adapter is possible for is matched.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    for node in list(model.graph):
        weight = _weight(node)
        if weight is None or not _matches(node, weight, options.target):
            continue
        name = weight.name or ""
        if name not in found:
            _add_factors(model.graph, node, weight, options.rank, rng)
            found[name] = None
        _add_branch(model, node, name, options.scale)
    if not found:
        wanted = " or ".join(options.target)
        raise SmithError(
            f"no weight of a matrix product or a convolution is called {wanted}",
            "see 'onnxsmith inspect' for the initializers' names",
        )
    return list(found)


def _weight(node: ir.Node) -> ir.Value | None:
    """Return the weight that an adapter can stand beside, None where there is none."""
    if not is_op(node, "MatMul", "Gemm", "Conv") or len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    if weight is None or not weight.is_initializer() or weight.dtype not in FLOATS:
        return None
    rank = None if weight.shape is None else len(weight.shape)
    if node.op_type == "Conv":
        return weight if node.attributes.get_int("group", 1) == 1 else None
    transposed = bool(node.attributes.get_int("transA", 0))
    return None if rank != 2 or transposed else weight


def _matches(node: ir.Node, weight: ir.Value, patterns: Sequence[str]) -> bool:
    names = (weight.name or "", node.name or "")
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _add_factors(
    graph: ir.Graph, node: ir.Node, weight: ir.Value, rank: int, rng: np.random.Generator
) -> None:
    """Add the factors; the first is uniform within ``1 / sqrt(in)``, as in the source's code."""
    assert weight.shape is not None  # _weight() checked
    assert weight.dtype is not None
    sizes = [int(size) for size in weight.shape.numpy()]
    if node.op_type == "Conv":
        first, second = (rank, *sizes[1:]), (sizes[0], rank, *[1] * (len(sizes) - 2))
        fan = int(np.prod(sizes[1:]))
    else:
        inner, outer = sizes[::-1] if node.attributes.get_int("transB", 0) else sizes
        first, second, fan = (inner, rank), (rank, outer), inner
    dtype = weight.dtype.numpy()
    limit = max(fan, 1) ** -0.5
    add_constant(graph, rng.uniform(-limit, limit, first).astype(dtype), f"{weight.name}.{FIRST}")
    add_constant(graph, np.zeros(second, dtype), f"{weight.name}.{SECOND}")


def _add_branch(model: ir.Model, node: ir.Node, name: str, scale: float) -> None:
    graph = model.graph
    version = next(model.opset_imports[d] for d in STANDARD if d in model.opset_imports)
    w = Writer(graph, version, f"{name}.lora")
    first, second = graph.initializers[f"{name}.{FIRST}"], graph.initializers[f"{name}.{SECOND}"]
    x, result = node.inputs[0], node.outputs[0]
    if node.op_type == "Conv":
        kept = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")
        small = w.op("Conv", x, first, dtype=first.dtype)
        producer = small.producer()
        assert producer is not None  # just written
        for word in kept:
            if word in node.attributes:
                producer.attributes.add(node.attributes[word])
        change = w.op("Conv", small, second)
    else:
        change = w.op("MatMul", w.op("MatMul", x, first, dtype=first.dtype), second)
        scale *= node.attributes.get_float("alpha", 1.0) if node.op_type == "Gemm" else 1.0
    scaled = w.op("Mul", change, w.number(scale, first))
    total = w.op("Add", result, scaled, dtype=first.dtype)
    total.shape = result.shape
    _unique(w, graph)
    sum_node = total.producer()
    assert sum_node is not None
    ir.convenience.replace_all_uses_with(result, total, replace_graph_outputs=True)
    sum_node.replace_input_with(0, result)
    if total.is_graph_output():
        total.name, result.name = result.name, f"{result.name}_without_adapter"
    graph.insert_after(node, w.nodes)


def _unique(w: Writer, graph: ir.Graph) -> None:
    """Rename what was written where a weight has several readers, and so several branches."""
    taken = {value.name for node in graph for value in node.outputs}
    for node in w.nodes:
        for value in node.outputs:
            while value.name in taken:
                value.name = f"{value.name}_"
