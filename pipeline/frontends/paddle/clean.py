"""Make what paddle2onnx writes readable: constants, names, dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import (
    DeduplicateInitializersPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.sizes import example_shape
from onnxsmith.spec import ValueSpec

# Paddle's own name for an output that has none.
_NAMELESS = "fetch_name_"


def clean(
    model: onnx.ModelProto, outputs: Sequence[str], wanted: Sequence[ValueSpec]
) -> onnx.ModelProto:
    """Return the model with weights as initializers, its names and its dimensions mended.

    Args:
        model: What paddle2onnx wrote.
        outputs: The outputs' names, in order.
        wanted: Signatures asked for; they may name dimensions, and fix open ones.

    Raises:
        UsageError: A signature does not fit the program's.
    """
    graph_model = ir.from_proto(model)
    for mend in (
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        IdentityEliminationPass(),
        RemoveUnusedNodesPass(),
        DeduplicateInitializersPass(),
    ):
        mend(graph_model)
    graph = graph_model.graph
    for value, name in zip(graph.outputs, outputs, strict=True):
        value.name = name
    _name_dimensions(graph, {spec.name: spec for spec in wanted})
    for value in graph.outputs:
        # Paddle counts on here; what the dimensions are follows from the operators.
        if value.shape is not None and value.type is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else None for d in value.shape])
    return _infer(ir.to_proto(graph_model))


def name_outputs(names: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    """Return the outputs' names: the program's own, or ``output`` and so on where it has none."""
    found: list[str] = []
    for index, name in enumerate(names):
        if name.startswith(_NAMELESS):
            name = "output" if len(names) == 1 else f"output_{index}"
        while name in taken or name in found:
            name = f"{name}_out"
        found.append(name)
    return tuple(found)


def input_specs(model: onnx.ModelProto) -> tuple[ValueSpec, ...]:
    """Return the signatures of a model's inputs."""
    return tuple(
        ValueSpec(
            value.name or "",
            value.dtype.numpy().name if value.dtype is not None else "float32",
            tuple(d if isinstance(d, int) else d.value for d in value.shape or ()),
        )
        for value in ir.from_proto(model).graph.inputs
    )


def make_examples(specs: tuple[ValueSpec, ...], request: ConvertRequest) -> dict[str, np.ndarray]:
    """Return random inputs: normal numbers, and 0 or 1 where they are whole.

    Raises:
        UsageError: A size is unknown or too small.
    """
    generator = np.random.default_rng(request.seed)
    examples: dict[str, np.ndarray] = {}
    for spec in specs:
        shape = example_shape(spec, request.dims, specs)
        if np.issubdtype(np.dtype(spec.dtype), np.floating):
            examples[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
        else:
            examples[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
    return examples


def _name_dimensions(graph: ir.Graph, wanted: dict[str, ValueSpec]) -> None:
    unknown = set(wanted) - {value.name for value in graph.inputs}
    if unknown:
        known = ", ".join(repr(value.name) for value in graph.inputs)
        raise UsageError(f"the program has no input {sorted(unknown)[0]!r}", f"its inputs: {known}")
    single = len(graph.inputs) == 1
    for value in graph.inputs:
        name = value.name or ""
        shape = [d if isinstance(d, int) else None for d in value.shape or ()]
        asked = wanted[name].shape if name in wanted else None
        if asked is not None and not _fits(asked, shape):
            raise UsageError(
                f"the input {name!r} of the program has the shape "
                f"[{','.join('?' if d is None else str(d) for d in shape)}]",
                "write names or sizes for the open dimensions, and the others as they are",
            )
        usual = _usual_names(name, shape, single=single)
        dims = [
            fixed if fixed is not None else (asked[axis] if asked is not None else usual[axis])
            for axis, fixed in enumerate(shape)
        ]
        value.shape = ir.Shape(dims)


def _fits(asked: tuple[int | str | None, ...], shape: list[int | None]) -> bool:
    pairs = list(zip(asked, shape, strict=False))
    return len(asked) == len(shape) and all(d is None or a == d for a, d in pairs)


def _usual_names(name: str, shape: list[int | None], *, single: bool) -> list[str]:
    """Return names for open dimensions: those of the field where one input leaves no doubt."""
    names = [f"{name}_dim{axis}" for axis in range(len(shape))]
    if names:
        names[0] = "batch"
    if single and len(shape) == 4:
        spatial = (2, 3) if shape[1] is not None else (1, 2)
        for axis, word in zip(spatial, ("height", "width"), strict=True):
            names[axis] = word
    elif single and len(shape) in (2, 3):
        names[1] = "time"
    return names


def _infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Infer shapes anew; dimensions that are new in the outputs stay without a name."""
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    named = {
        dim.dim_param
        for value in inferred.graph.input
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    }
    for value in inferred.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param not in named:
                dim.ClearField("dim_param")
    return inferred
