"""Clean what skl2onnx writes: sequences, shapes that are not true, labels, names of dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.linear_model._stochastic_gradient import BaseSGDClassifier
from sklearn.svm import SVC, NuSVC

from onnxsmith.spec import ValueSpec

# glibc has this locale everywhere. The operator's default, en_US.UTF-8, is missing in containers,
# and a model that names it does not load there.
_LOCALE = "C.UTF-8"


def finish_graph(
    proto: onnx.ModelProto, specs: Sequence[ValueSpec], final: Any, threshold: float | None
) -> None:
    """Make the graph of an estimator clean, in place.

    A sequence of outputs, the probabilities of several targets, becomes an output each, called
    ``probabilities_0`` and so on: sequences run on no accelerator.

    Args:
        proto: The model.
        specs: Its inputs.
        final: The step whose results come out.
        threshold: The probability from which the second of two classes is meant, if not half.
    """
    graph = proto.graph
    _split_sequences(graph)
    _name_locale(graph)
    if threshold is not None:
        _apply_threshold(graph, threshold, final.classes_)
    if isinstance(final, (SVC, NuSVC)) and decides_between_two(final):
        # The two columns are those of the other class each.
        _after(graph, graph.output[1].name, "Neg", [])
    if isinstance(final, QuadraticDiscriminantAnalysis):  # its labels are one row
        _flatten(graph, "label")
    if len(graph.output) > 1 and decides_between_two(final) and not isinstance(final, BOTH_CLASSES):
        dims = graph.output[1].type.tensor_type.shape.dim
        if len(dims) == 2:
            dims[1].dim_value = 1  # skl2onnx declares 2
    _true_shapes(proto)
    _name_batch(graph, specs)


# Classifiers whose decision values skl2onnx gives for both of two classes.
BOTH_CLASSES = (BaseSGDClassifier, NuSVC, SVC)


@dataclass(frozen=True)
class Output:
    """An output of the graph.

    Attributes:
        name: Its name.
        floating: Whether it holds floating-point numbers.
    """

    name: str
    floating: bool


def decides_between_two(final: Any) -> bool:
    """Return whether a classifier of two classes gives decision values, not probabilities."""
    classes = getattr(final, "classes_", None)
    return classes is not None and len(classes) == 2 and not hasattr(final, "predict_proba")


def outputs_of(graph: Any) -> tuple[Output, ...]:
    """Return the outputs in order."""
    return tuple(
        Output(
            value.name,
            value.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.DOUBLE),
        )
        for value in graph.output
    )


def _split_sequences(graph: Any) -> None:
    makers = {node.output[0]: node for node in graph.node if node.op_type == "SequenceConstruct"}
    outputs = list(graph.output)
    if not any(value.name in makers for value in outputs):
        return
    del graph.output[:]
    for value in outputs:
        maker = makers.get(value.name)
        if maker is None:
            graph.output.append(value)
            continue
        element = value.type.sequence_type.elem_type.tensor_type.elem_type
        for number, name in enumerate(maker.input):
            new = f"{value.name}_{number}"
            _rename_inside(graph, name, new)
            graph.output.append(helper.make_tensor_value_info(new, element, [None, None]))
        graph.node.remove(maker)


def _name_locale(graph: Any) -> None:
    for node in graph.node:
        if node.op_type == "StringNormalizer" and all(a.name != "locale" for a in node.attribute):
            node.attribute.append(helper.make_attribute("locale", _LOCALE))


def _apply_threshold(graph: Any, threshold: float, classes: np.ndarray) -> None:
    """Choose the label by the probability of the second class."""
    label, probabilities = (value.name for value in graph.output[:2])
    _rename_inside(graph, label, f"{label}_even")
    table = helper.make_node("Constant", [], ["threshold_labels"])
    text = classes.dtype.kind in "OU"
    values = [str(c) if text else int(c) for c in classes]
    table.attribute.append(helper.make_attribute("value_strings" if text else "value_ints", values))
    tensors: dict[str, np.ndarray] = {
        "threshold_column": np.array(1, np.int64),
        "threshold": np.array(threshold, np.float32),
    }
    for name, array in tensors.items():
        graph.initializer.append(numpy_helper.from_array(array, name))
    graph.node.extend(
        [
            table,
            helper.make_node(
                "Gather", [probabilities, "threshold_column"], ["threshold_score"], axis=1
            ),
            helper.make_node(
                "GreaterOrEqual", ["threshold_score", "threshold"], ["threshold_reached"]
            ),
            helper.make_node("Cast", ["threshold_reached"], ["threshold_index"], to=7),
            helper.make_node("Gather", ["threshold_labels", "threshold_index"], [label]),
        ]
    )


def _true_shapes(proto: onnx.ModelProto) -> None:
    """Replace the shapes that skl2onnx declares by those that follow from the operators.

    Labels that come out as a row or a column are flattened: scikit-learn's have one dimension.
    """
    graph = proto.graph
    del graph.value_info[:]
    shapes = _inferred(proto)
    label = graph.output[0]
    if label.name == "label" and len(graph.output) > 1 and len(shapes.get("label", [0])) == 2:
        declared = label.type.tensor_type.shape.dim
        if len(declared) < 2 or declared[1].dim_value < 2:  # several targets have several labels
            _flatten(graph, "label")
            shapes["label"] = [None]
    for value in graph.output:
        if value.name in shapes:
            element = value.type.tensor_type.elem_type
            dims = value.type.tensor_type.shape.dim
            known = [dim.dim_value or None for dim in dims]
            shape = shapes[value.name]
            if len(known) == len(shape):
                shape = [new or old for new, old in zip(shape, known, strict=True)]
            found = helper.make_tensor_value_info(value.name, element, shape)
            value.type.CopyFrom(found.type)


def _flatten(graph: Any, name: str) -> None:
    shape = numpy_helper.from_array(np.array([-1], np.int64), f"{name}_shape")
    _after(graph, name, "Reshape", [shape])


def _inferred(proto: onnx.ModelProto) -> dict[str, list[int | None]]:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    return {
        value.name: [
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in onnx.shape_inference.infer_shapes(copy).graph.output
        if value.type.tensor_type.HasField("shape")
    }


def _after(graph: Any, name: str, op_type: str, tensors: Sequence[TensorProto]) -> None:
    """Put an operator behind an output, which keeps its name."""
    before = f"{name}_before_{op_type.lower()}"
    _rename_inside(graph, name, before)
    graph.initializer.extend(tensors)
    inputs = [before, *(tensor.name for tensor in tensors)]
    graph.node.append(helper.make_node(op_type, inputs, [name]))


def _rename_inside(graph: Any, old: str, new: str) -> None:
    """Rename a value inside the graph; the graph's output of that name is left to another node."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def _name_batch(graph: Any, specs: Sequence[ValueSpec]) -> None:
    """Name the dimensions of the inputs, and the outputs' first after the inputs' first."""
    asked = {spec.name: spec.shape or () for spec in specs}
    batch = (specs[0].shape or ())[:1]
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        for dim, name in zip(dims, asked.get(value.name, batch), strict=False):
            if isinstance(name, str) and not dim.dim_value:
                dim.dim_param = name
