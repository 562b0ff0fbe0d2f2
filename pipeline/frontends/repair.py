"""Mend graphs that are not valid, and shapes that the runtime contradicts.

torch's exporter declares the output of an LSTM with the example's length where the length is
symbolic. The model runs, with warnings; passes that believe the shape would break it.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import (
    NameFixPass,
    OutputFixPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
    TopologicalSortPass,
)

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.parity import Parity


def repair_graph(model: ir.Model) -> None:
    """Mend what a checker would refuse and what has one right answer, in place.

    Nodes are sorted; nodes and values get unique names; inputs that are outputs at once, and
    outputs listed twice, get an Identity of their own; nodes without use go; shapes of
    intermediate values and of outputs are inferred anew, because wrong ones are worse than none.
    """
    for mend in (TopologicalSortPass(), OutputFixPass(), RemoveUnusedNodesPass(), NameFixPass()):
        mend(model)
    declared = [(output, output.shape) for output in model.graph.outputs]
    _forget_shapes(model)
    for output, _ in declared:
        if not output.is_graph_input():
            output.shape = None
    ShapeInferencePass(strict_mode=False)(model)
    for output, shape in declared:
        if output.shape is None:  # inference gives up at operators that it does not know
            output.shape = shape


def repair_shapes(artifact: Artifact, parity: Parity) -> bool:
    """Open the output dimensions that the probes contradict; return whether there were any.

    A dimension takes the name of an input's symbol that had the same size in every probe. The
    shapes of intermediate values come from the same exporter: they are inferred anew.
    """
    wrong = _contradicted(artifact, parity)
    if not wrong:
        return False
    sizes = _symbol_sizes(artifact, parity)
    for output in artifact.model.graph.outputs:
        if output.shape is None:
            continue
        dims: list[int | str | None] = []
        for axis, dim in enumerate(output.shape):
            plain = dim if isinstance(dim, int) else dim.value
            if (output.name, axis) in wrong:
                found = tuple(shape[axis] for shape in parity.observed[output.name or ""])
                plain = next((name for name, size in sizes.items() if size == found), None)
            dims.append(plain)
        output.shape = ir.Shape(dims)
    _forget_shapes(artifact.model)
    ShapeInferencePass(strict_mode=False)(artifact.model)
    return True


def _contradicted(artifact: Artifact, parity: Parity) -> set[tuple[str | None, int]]:
    return {
        (output.name, axis)
        for output in artifact.model.graph.outputs
        for shape in parity.observed.get(output.name or "", ())
        for axis, (declared, size) in enumerate(zip(output.shape or (), shape, strict=False))
        if isinstance(declared, int) and declared != size
    }


def _symbol_sizes(artifact: Artifact, parity: Parity) -> dict[str, tuple[int, ...]]:
    """Return the sizes that each named input dimension had, probe by probe."""
    return {
        dim: tuple(shapes[spec.name][axis] for shapes in parity.shapes)
        for spec in artifact.spec.inputs
        for axis, dim in enumerate(spec.shape or ())
        if isinstance(dim, str)
    }


def _forget_shapes(model: ir.Model) -> None:
    outputs = set(model.graph.outputs)
    for graph in model.graphs():
        for node in graph:
            for value in node.outputs:
                if value not in outputs:
                    value.shape = None
