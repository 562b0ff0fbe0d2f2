"""Store weights in 8 or 4 bits, a scale for each block, and compute in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.cleanup.remove_unused_nodes import sweep
from onnxsmith.passes.fusion.contrib import declare, float_attribute, version_of
from onnxsmith.passes.match import Array, input_of, int_attribute, is_op, replace
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.passes.quantization.blockwise.blocks import Blocks, Grid
from onnxsmith.passes.quantization.blockwise.curvature import curvatures
from onnxsmith.passes.quantization.blockwise.gptq import inverse_factor, round_by_curvature
from onnxsmith.passes.quantization.blockwise.hqq import round_half_quadratic
from onnxsmith.passes.quantization.blockwise.rtn import round_to_nearest
from onnxsmith.passes.quantization.blockwise.write import write_dequantize, write_nbits
from onnxsmith.passes.quantization.calibration.samples import describe_data, refuse_poor_data
from onnxsmith.passes.quantization.detect import refuse_quantized
from onnxsmith.passes.quantization.dynamic.embeddings import gather
from onnxsmith.passes.quantization.dynamic.writer import (
    LeaveFloat,
    Writer,
    activation_of,
    weight_of,
)
from onnxsmith.passes.quantization.select import LeftFloat, label

_KINDS = ("Gather", "Gemm", "MatMul")
_CHANNEL_OPSET, _BLOCK_OPSET = 13, 21
_LEAST_BLOCK = 16
_LEVELS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class _Product:
    """A product that can be quantized: its node and operand, and how many numbers it sums."""

    node: ir.Node
    x: ir.Value
    inputs: int


@dataclass
class _Found:
    """What a run of the pass did."""

    left: LeftFloat = field(default_factory=LeftFloat)
    errors: dict[str, float] = field(default_factory=dict)
    tables: int = 0
    nearest: list[str] = field(default_factory=list)
    samples: int = 0


@dataclass(frozen=True)
class QuantizeWeights(QuantizingPass):
    """Store weights in 8 or 4 bits, a scale for each block, and compute in float.

    ``MatMul(x, w) = MatMul(x, s (q - z))`` with ``s`` and ``z`` for each block of inputs of each
    output; Gemm likewise. Tables of embeddings are stored in int8 with a scale for each column.

    Options:
        bits: Of a weight, 4 or 8.
        block_size: How many weights share a scale; a power of 2 from 16 on.
        algorithm: ``rtn`` rounds to nearest; ``hqq`` (4 bits, ``matmul-nbits``) fits zero points
            between the integers; ``gptq`` needs data and rounds so that the products change little.
        symmetric: Whether the middle integer stands for 0, which saves the zero points; ``auto``
            is yes, but for ``hqq``.
        form: ``matmul-nbits`` is the runtime's own operator, whose kernel reads the integers;
            ``dequantize`` is DequantizeLinear of opset 21 before a plain product, for any runtime.
        accuracy_level: What MatMulNBits may compute in: 4 is int8, faster and less exact; 0 leaves
            it to the kernel.
        samples: Most batches that ``gptq`` reads.
        allow_poor_data: Let ``gptq`` go by random data, or by fewer than 32 samples.

    What is left alone, and said: products of two computed values, weights that are not float32 or
    not finite, transposed first operands, small tables, convolutions and recurrent layers, and for
    ``dequantize`` inputs that blocks do not divide. In bodies of If, Loop and Scan ``gptq`` rounds
    to nearest. Functions with products are inlined.

    Source: ONNX's blocked DequantizeLinear and ONNX Runtime's MatMulNBits; Badri and Shaji 2023
    (HQQ), Frantar et al. 2022 (GPTQ).
    """

    name: ClassVar[str] = "quantize-weights"

    bits: int = 4
    block_size: int = 32
    algorithm: Literal["rtn", "hqq", "gptq"] = "rtn"
    symmetric: Literal["auto", "on", "off"] = "auto"
    form: Literal["matmul-nbits", "dequantize"] = "matmul-nbits"
    accuracy_level: int = 0
    samples: int = 256
    allow_poor_data: bool = False

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UsageError: One is out of range, or two do not go together.
        """
        if self.bits not in (4, 8):
            raise UsageError(f"weights of {self.bits} bits are unknown", "give bits 4 or 8")
        size = self.block_size
        if size < _LEAST_BLOCK or size & (size - 1):
            raise UsageError(f"a block cannot be of {size} weights", "give 16, 32, 64, 128 or 256")
        if self.accuracy_level not in _LEVELS:
            raise UsageError(f"no accuracy level {self.accuracy_level}", "give 0 to 4")
        nbits = self.form == "matmul-nbits"
        if self.accuracy_level and not nbits:
            raise UsageError("accuracy-level is of MatMulNBits", "leave it out with dequantize")
        if self.algorithm == "hqq" and (self.bits != 4 or not nbits or self.symmetric == "on"):
            raise UsageError(
                "hqq has zero points between the integers, which only MatMulNBits of 4 bits takes",
                "give rtn or gptq, or 4 bits, matmul-nbits and asymmetric",
            )

    def check_context(self, context: PassContext) -> None:
        """Refuse ``gptq`` without data.

        Raises:
            SmithError: There is none.
        """
        super().check_context(context)
        if self.algorithm == "gptq" and context.samples is None:
            raise SmithError("gptq needs samples of the inputs", "give --data")

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Quantize in the graph and its subgraphs.

        Raises:
            SmithError: The model is quantized already, too old, or nothing in it can be quantized.
        """
        refuse_quantized(model)
        self.selection.check(model)
        self._refuse_old(model)
        if self.algorithm == "gptq":
            refuse_poor_data(context, self.allow_poor_data)
        common.InlinePass(criteria=_has_products)(model)
        InferShapes().apply(model, context)
        before, found = _bytes(model), _Found()
        products = self._products(model, found)
        factors = self._factors(model, products, context, found)
        for product in products:
            self._write(model, product, factors, found)
        if not found.errors and not found.tables:
            raise SmithError(
                "nothing in the model can be quantized",
                "only constant weights of matrix products and tables can; see 'onnxsmith inspect'",
            )
        sweep(model.graph)
        return PassResult(model, True, self._details(model, context, found, before))

    @property
    def grid(self) -> Grid:
        """How weights are rounded."""
        symmetric = self.algorithm != "hqq" if self.symmetric == "auto" else self.symmetric == "on"
        return Grid(self.bits, self.block_size, symmetric)

    def _refuse_old(self, model: ir.Model) -> None:
        needed = _BLOCK_OPSET if self.form == "dequantize" else _CHANNEL_OPSET
        if version_of(model) < needed:
            raise SmithError(
                f"the model is of opset {version_of(model)}; {self.form} needs {needed}",
                f"convert the model first: --passes convert-opset:version={needed}",
            )

    def _products(self, model: ir.Model, found: _Found) -> list[_Product]:
        """Return what can be quantized; tables are quantized at once."""
        products, writer = [], Writer(model.graph)
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            if not is_op(node, *_KINDS):
                continue
            try:
                if reason := self.selection.refusal(node):
                    raise LeaveFloat(reason)
                if node.op_type == "Gather":
                    gather(writer, node)
                    found.tables += 1
                else:
                    x, (_, inputs) = activation_of(node), self._rows(node).shape
                    products.append(_Product(node, x, inputs))
            except LeaveFloat as refusal:
                if node.op_type != "Gather" or "exclude" in str(refusal):
                    found.left.add(node, str(refusal))
        return products

    def _rows(self, node: ir.Node) -> Array:
        """Return the weights of a product, of shape (outputs, inputs).

        They are read anew each time: together they may be larger than memory.

        Raises:
            LeaveFloat: The node cannot be quantized.
        """
        weight = weight_of(input_of(node, 1))
        if weight.array.ndim != 2:
            raise LeaveFloat("its weights are no matrix")
        turned = int_attribute(node, "transB", 0) if node.op_type == "Gemm" else 0
        flipped = int_attribute(node, "transA", 0) if node.op_type == "Gemm" else 0
        if turned is None or flipped:
            raise LeaveFloat("its first operand is transposed")
        by_outputs = weight.transposed != bool(turned)
        rows = weight.array if by_outputs else weight.array.T
        if self.form == "dequantize" and rows.shape[1] % self.block_size:
            raise LeaveFloat(f"blocks of {self.block_size} do not divide its inputs")
        return rows

    def _factors(
        self, model: ir.Model, products: list[_Product], context: PassContext, found: _Found
    ) -> Mapping[ir.Value, Array]:
        if self.algorithm != "gptq":
            return {}
        assert context.samples is not None  # check_context() came first
        values = {p.x.name or "": p.x for p in products if _is_seen(p, model.graph)}
        widths = {p.x.name or "": p.inputs for p in products if p.x in values.values()}
        factors: dict[ir.Value, Array] = {}
        for name, hessian, count in curvatures(model, widths, context.samples, self.samples):
            factors[values[name]] = inverse_factor(hessian)
            found.samples = count
        return factors

    def _round(
        self, product: _Product, rows: Array, factors: Mapping[ir.Value, Array], found: _Found
    ) -> Blocks:
        if self.algorithm == "hqq":
            return round_half_quadratic(rows, self.grid)
        if product.x in factors:
            return round_by_curvature(rows, factors[product.x], self.grid)
        if self.algorithm == "gptq":
            found.nearest.append(label(product.node))
        return round_to_nearest(rows, self.grid)

    def _write(
        self,
        model: ir.Model,
        product: _Product,
        factors: Mapping[ir.Value, Array],
        found: _Found,
    ) -> None:
        node, graph = product.node, product.node.graph
        assert graph is not None  # matchers only see nodes of graphs
        rows, weights = self._rows(node), node.inputs[1]
        assert weights is not None  # _rows() read them
        name = weights.name or "weight"
        blocks = self._round(product, rows, factors, found)
        found.errors[label(node)] = blocks.error(rows)
        if self.form == "matmul-nbits":
            declare(model)
            new = write_nbits(model.graph, product.x, blocks, name, self.accuracy_level)
        else:
            restored = write_dequantize(model.graph, blocks, name)
            graph.insert_before(node, restored)
            new = ir.node("MatMul", [product.x, restored.outputs[0]])
        replace(node, _with_gemm_rest(model.graph, node, new))

    def _details(
        self, model: ir.Model, context: PassContext, found: _Found, before: int
    ) -> dict[str, Any]:
        errors = list(found.errors.values())
        details: dict[str, Any] = {
            "quantized": len(errors) + found.tables,
            "bytes_before": before,
            "bytes_after": _bytes(model),
            "weight_error_mean": float(np.mean(errors)) if errors else 0.0,
            "weight_error_worst": max(found.errors, key=found.errors.__getitem__, default=""),
            "weight_error_max": max(errors, default=0.0),
            "left_float": found.left.to_json(),
        }
        if self.algorithm == "gptq":
            details |= describe_data(context, found.samples)
        if found.nearest:
            words = f"{len(found.nearest)} products in bodies are rounded to nearest"
            details["warnings"] = [*details.get("warnings", ()), words]
        return details


def _has_products(function: ir.Function) -> bool:
    return any(is_op(node, *_KINDS) for node in ir.traversal.RecursiveGraphIterator(function))


def _is_seen(product: _Product, graph: ir.Graph) -> bool:
    """Tell whether a product's input is a value of the main graph, of known width."""
    producer, shape = product.x.producer(), product.x.shape
    owner = product.x.graph if producer is None else producer.graph
    return owner is graph and shape is not None and shape[-1] == product.inputs


def _with_gemm_rest(root: ir.Graph, node: ir.Node, product: ir.Node) -> ir.Node:
    """Put ``alpha`` and the bias of a Gemm behind the product that takes its place."""
    if node.op_type != "Gemm":
        return product
    graph, last = node.graph, product
    assert graph is not None  # matchers only see nodes of graphs
    alpha, beta = float_attribute(node, "alpha", 1.0), float_attribute(node, "beta", 1.0)
    writer, bias = Writer(root), input_of(node, 2)
    if alpha != 1:
        graph.insert_before(node, last)
        last = ir.node("Mul", [last.outputs[0], writer.constant(_number(alpha), "alpha")])
    if bias is None or beta == 0:
        return last
    graph.insert_before(node, last)
    if beta != 1:
        scaled = ir.node("Mul", [bias, writer.constant(_number(beta), "beta")])
        graph.insert_before(node, scaled)
        bias = scaled.outputs[0]
    return ir.node("Add", [last.outputs[0], bias])


def _number(value: float | None) -> Array:
    return np.array(value, np.float32)


def _bytes(model: ir.Model) -> int:
    return sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )
