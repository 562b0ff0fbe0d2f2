"""Bring a model into the form that the gradient rules are written for."""

from __future__ import annotations

from collections.abc import Container, Iterable

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from onnxsmith.passes.autodiff.backward import Rules
from onnxsmith.passes.autodiff.custom import add_bodies, known_operators, rules_of
from onnxsmith.passes.autodiff.time_first import time_first
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.fusion.contrib import DOMAIN as CONTRIBUTED
from onnxsmith.passes.fusion.decompose import Decompose
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.match import STANDARD, all_nodes
from onnxsmith.passes.pipeline import PassPipeline

OLDEST = 18
"""The rules read attributes and inputs as this version of the operators has them."""

_PASSES = (
    "infer-shapes,fold-shapes,fold-constants,fold-ifs,fold-sequences,remove-no-ops,"
    "remove-unused-nodes,"
    "infer-shapes"
)


def prepare(model: ir.Model, variables: Iterable[str], custom: Rules | None = None) -> ir.Model:
    """Inline functions, fold shape arithmetic, infer shapes; variables become graph inputs.

    Custom operators that bring a gradient stay, all others are written as their portable body.

    Args:
        model: It is edited, unless it is below opset 18.
        variables: Initializers that are to be differentiated by or trained. As inputs, no pass and
            no session folds them into anything.
        custom: Rules for operators of other domains, besides those that registered ones bring.

    Returns:
        The model, a new one where it was below opset 18.

    Raises:
        SmithError: The model cannot be written in opset 18.
    """
    variables = list(variables)
    make_inputs(model, variables)
    add_bodies(model)
    inline(model, {**rules_of(known_operators(model)), **(custom or {})})
    current = max((model.opset_imports.get(domain, 0) for domain in STANDARD), default=0)
    if not current:
        model.opset_imports[""] = OLDEST
    _write_out(model)
    if 0 < current < OLDEST:
        model = ConvertOpset(OLDEST).apply(model, PassContext()).model
        _write_out(model)  # what had no plain form in the older version
    for step in PassPipeline.parse(_PASSES).passes:
        model = step.apply(model, PassContext()).model
    if time_first(model):
        InferShapes().apply(model, PassContext())
    return model


def _write_out(model: ir.Model) -> None:
    """Write the runtime's own operators as what they are made of: there are no rules for them."""
    if any(node.domain == CONTRIBUTED for node in all_nodes(model)):
        InferShapes().apply(model, PassContext())
        while Decompose().apply(model, PassContext()).modified:
            InferShapes().apply(model, PassContext())  # types behind what had no inference


def inline(model: ir.Model, kept: Container[tuple[str, str]]) -> None:
    """Put the bodies of functions in the place of their calls, but for some."""
    inlined = [key for key in model.functions if key[:2] not in kept]
    if inlined:
        InlinePass(lambda function: (function.domain, function.name) not in kept)(model)
        for key in inlined:
            model.functions.pop(key, None)


def make_inputs(model: ir.Model, names: Iterable[str]) -> None:
    """Turn initializers into graph inputs."""
    graph = model.graph
    for name in names:
        value = graph.initializers.pop(name, None)
        if value is None:
            continue
        value.const_value = None
        if value not in graph.inputs:
            graph.inputs.append(value)
