"""Bring a model made for inference into the form that is trained."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import STANDARD, add_constant, all_nodes, int_attribute, is_op

AGAIN = "onnxsmith.again"
"""Metadata of random nodes that compute again what another one did: the name of its output."""


def train_batch_norm(model: ir.Model) -> dict[str, ir.Value]:
    """Let batch normalization use the statistics of the batch.

    ``running = m running + (1 - m) batch``, the variance divided by the number of elements, as
    ONNX defines it.

    Args:
        model: It is edited.

    Returns:
        Initializers with running statistics to the values that are their next content.
    """
    remembered: dict[str, ir.Value] = {}
    for node in all_nodes(model):
        if not is_op(node, "BatchNormalization") or len(node.inputs) < 5:
            continue
        mean, variance = node.inputs[3], node.inputs[4]
        if not all(
            v is not None and v.is_initializer() and len(v.uses()) == 1 for v in (mean, variance)
        ):
            continue
        node.attributes.add(ir.AttrInt64("training_mode", 1))
        node.resize_outputs(3)
        for output, source in zip(node.outputs[1:], (mean, variance), strict=True):
            assert source is not None  # checked above
            output.name = f"{source.name}_next"
            output.type, output.shape = source.type, source.shape
            remembered[source.name or ""] = output
    return remembered


def train_dropout(model: ir.Model) -> int:
    """Let dropout drop; return how many such nodes there are."""
    count = 0
    for node in all_nodes(model):
        if not is_op(node, "Dropout"):
            continue
        count += 1
        node.resize_inputs(3)
        true = add_constant(model.graph, np.array(True), "training")
        node.replace_input_with(2, true)
    return count


def seed_random(model: ir.Model, seed: int) -> int:
    """Give every random node a seed of its own; return how many there are.

    A node that computes something again gets the seed of the node it does so for.
    """
    rng = np.random.default_rng(seed)
    numbers: dict[str | None, int] = {}
    for node in all_nodes(model):
        if not is_random(node):
            continue
        number = numbers.get(node.metadata_props.get(AGAIN))
        if number is None:
            number = numbers[node.outputs[0].name] = int(rng.integers(1, 2**23))
        whole = node.op_type == "Dropout"
        node.attributes.add(
            ir.AttrInt64("seed", number) if whole else ir.AttrFloat32("seed", float(number))
        )
    return len(numbers)


def is_random(node: ir.Node) -> bool:
    """Tell whether a node draws random numbers, in training at least."""
    return node.op_type in _SEEDED and node.domain in STANDARD


_SEEDED = (
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip


def inference_form(model: ir.Model) -> None:
    """Let batch normalization use what it remembers and dropout pass everything."""
    for node in all_nodes(model):
        if is_op(node, "BatchNormalization") and int_attribute(node, "training_mode", 0):
            node.attributes.add(ir.AttrInt64("training_mode", 0))
            if not any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
                node.resize_outputs(1)
        if is_op(node, "Dropout") and len(node.inputs) > 2:
            node.resize_inputs(2)
