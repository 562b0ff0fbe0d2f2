"""The fused kernels that a model runs in the end, each with the shapes it sees."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.layout.set_shapes import SetShapes
from onnxsmith.passes.match import STANDARD, all_nodes, tensor_of
from onnxsmith.pipeline.kernels.table import RUNTIME_FUSIONS
from onnxsmith.runtime.session import Session
from onnxsmith.target import Target

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Operand:
    """An input of a kernel: its element type and sizes, and whether it is a constant."""

    dtype: ir.DataType
    shape: tuple[int, ...]
    constant: bool


@dataclass(frozen=True)
class Case:
    """A fused operator at the shapes of one place in a model.

    Attributes:
        domain: The operator's domain.
        op_type: Its name.
        attributes: Its attributes, by name.
        operands: Its inputs; None where one is left out.
        outputs: How many outputs it has.
        read: Indices of those that are read.
    """

    domain: str
    op_type: str
    attributes: tuple[tuple[str, float | int | str], ...]
    operands: tuple[Operand | None, ...]
    outputs: int
    read: tuple[int, ...]

    def model(self, opset: int) -> Artifact:
        """Return a model of this one operator; its constants are random numbers."""
        generator = np.random.default_rng(0)
        inputs: list[ir.Value] = []
        constants: list[ir.Value] = []
        values: list[ir.Value | None] = []
        for index, operand in enumerate(self.operands):
            if operand is None:
                values.append(None)
                continue
            value = ir.Value(
                name=f"x{index}",
                shape=ir.Shape(operand.shape),
                type=ir.TensorType(operand.dtype),
            )
            if operand.constant:
                array = generator.standard_normal(operand.shape) * 0.1
                value.const_value = ir.Tensor(array.astype(operand.dtype.numpy()), name=value.name)
                constants.append(value)
            else:
                inputs.append(value)
            values.append(value)
        node = ir.node(
            self.op_type,
            values,
            dict(self.attributes),
            domain=self.domain,
            num_outputs=self.outputs,
            name="kernel",
        )
        first = next(operand for operand in self.operands if operand is not None)
        for index, output in enumerate(node.outputs):
            output.name = f"y{index}" if index in self.read else ""
            output.type = ir.TensorType(first.dtype)
        graph = ir.Graph(
            inputs,
            [node.outputs[index] for index in self.read],
            nodes=[node],
            initializers=constants,
            opset_imports={"": opset, **({} if self.domain in STANDARD else {self.domain: 1})},
            name="kernel",
        )
        return Artifact(ir.Model(graph, ir_version=10))


def final_cases(
    artifact: Artifact, target: Target, dims: Mapping[str, int] | None = None
) -> dict[Case, int]:
    """Return the fused kernels of the graph that the runtime makes, and how often each runs.

    Args:
        artifact: The model.
        target: Supplies the providers.
        dims: Sizes of symbolic dimensions; those not named are 1.

    Raises:
        SmithError: The runtime refuses the model, or a provider is not there.
    """
    model = artifact.model.clone()
    free = {d for v in artifact.spec.inputs for d in v.shape or () if isinstance(d, str)}
    sizes = dict.fromkeys(free, 1) | dict(dims or {})
    if sizes:
        names = tuple(f"{name}={size}" for name, size in sorted(sizes.items()))
        SetShapes(names).apply(model, PassContext())
    with tempfile.TemporaryDirectory(prefix="onnxsmith-kernels-") as folder:
        path = Path(folder, "model.onnx")
        with Session(Artifact(model), target, save_optimized=path):
            pass
        final = ir.load(path)
        InferShapes().apply(final, PassContext())  # the runtime leaves out some of its own values
        return dict(Counter(_cases(final)))


def _cases(model: ir.Model) -> Iterator[Case]:
    for node in all_nodes(model):
        if node.op_type not in RUNTIME_FUSIONS or not node.outputs:
            continue
        operands = [_operand(value) for value in node.inputs]
        if all(operand is not None for operand, v in zip(operands, node.inputs, strict=True) if v):
            yield Case(
                node.domain,
                node.op_type,
                tuple(sorted((name, _plain(found)) for name, found in node.attributes.items())),
                tuple(operands),
                len(node.outputs),
                tuple(
                    index
                    for index, value in enumerate(node.outputs)
                    if value.uses() or value.is_graph_output()
                ),
            )


def _operand(value: ir.Value | None) -> Operand | None:
    """Describe an input; None where it is left out, of unknown size, or not of floats."""
    if value is None or value.shape is None or value.dtype not in _FLOATS:
        return None
    sizes = tuple(size for size in value.shape if isinstance(size, int))
    if len(sizes) < len(value.shape):
        return None
    return Operand(value.dtype, sizes, tensor_of(value) is not None)


def _plain(found: ir.Attr) -> float | int | str:
    value = found.value
    return value if isinstance(value, (float, int, str)) else str(value)
