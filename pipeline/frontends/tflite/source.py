"""A ``.tflite`` file as a source: converted by tf2onnx, run by the interpreter."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from tf2onnx.constants import OPSET_TO_IR_VERSION
from tf2onnx.tfonnx import process_tf_graph

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.sizes import example_shape
from onnxsmith.pipeline.frontends.tensorflow.convert import optimized
from onnxsmith.pipeline.frontends.tensorflow.dims import open_dims
from onnxsmith.pipeline.frontends.tensorflow.finish import finish, write
from onnxsmith.pipeline.frontends.tensorflow.mends import handlers
from onnxsmith.pipeline.frontends.tensorflow.signature import named_dims
from onnxsmith.pipeline.frontends.tflite.hybrid import exact_copy, hybrid_operators, plain_copy
from onnxsmith.pipeline.frontends.tflite.interpreter import Runner
from onnxsmith.pipeline.frontends.tflite.rounding import round_pool_ties
from onnxsmith.pipeline.frontends.tflite.schema import GraphInfo, TensorInfo, read_file
from onnxsmith.spec import ValueSpec

_OLDEST_OPSET = 13  # quantization by channel
_CONVERTED_CUSTOM = ("TFLite_Detection_PostProcess",)
_DRAWS = 4
# The kernels' distance is seen on a few draws only.
_MARGIN = 2.0

Arrays = dict[str, np.ndarray[Any, Any]]


class TfliteSource:
    """A ``.tflite`` file.

    Args:
        request: The file, and shapes for its open dimensions.

    Raises:
        SmithError: The file is damaged, or holds operators that cannot be converted.
        UsageError: What was asked for does not fit the file.
    """

    def __init__(self, request: ConvertRequest) -> None:
        self.path = Path(request.source)
        self.graphs = read_file(self.path)
        self.graph = self.graphs[0]
        _refuse_custom(self.graphs)
        self.opset = request.opset
        self.specs = _specs(self.graph, request.inputs)
        self.hybrid = sum(len(hybrid_operators(graph)) for graph in self.graphs)
        self._plain, self._exact = self._copies()
        self._runner = Runner(self._exact)
        self._generator = np.random.default_rng(request.seed)
        fixed = {spec.name for spec in request.inputs}
        self.specs, self.observed = open_dims(
            self._run, self._make, self.specs, request.dims, fixed
        )
        arrays = self._make(self.specs, request.dims)
        self.examples = {s.name: a for s, a in zip(self.specs, arrays, strict=True)}

    def export(self, folder: Path) -> Export:
        """Convert with tf2onnx; see ``Source.export``."""
        proto = optimized(
            lambda: process_tf_graph(
                None,
                opset=min(max(self.opset, _OLDEST_OPSET), max(OPSET_TO_IR_VERSION)),
                tflite_path=str(self._plain),
                custom_op_handlers=handlers(),
            )
        )
        names = {spec.name: spec for spec in self.specs}
        outputs = [(name, name) for name in self._outputs()]
        model = finish(proto, (), names, outputs, self.observed)
        round_pool_ties(model)
        path = write(model, folder)
        details = {"route": self._route(), "versions": _versions()}
        notes: tuple[str, ...] = ()
        if self.hybrid:
            notes = (
                f"{self.hybrid} operators have 8-bit weights and round their inputs while they "
                "run; the ONNX model keeps the weights and does not round",
            )
        return Export(path, self.examples, details, notes, steps=self._steps())

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the file in the interpreter; see ``Source.reference``."""
        return self._runner.run(feeds)

    def _outputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.graph.tensors[index].name for index in self.graph.outputs))

    def _route(self) -> str:
        if self.hybrid:
            return "tflite, 8-bit weights"
        return "tflite, quantized" if self.graph.quantized else "tflite"

    def _copies(self) -> tuple[Path, Path]:
        """Return the files to convert and to run: the source itself, where nothing is rounded."""
        if not self.hybrid:
            return self.path, self.path
        data = self.path.read_bytes()
        folder = Path(tempfile.mkdtemp(prefix="onnxsmith-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        plain, exact = folder / "plain.tflite", folder / "exact.tflite"
        plain.write_bytes(plain_copy(data, self.graphs))
        exact.write_bytes(exact_copy(data, self.graphs))
        return plain, exact

    def _steps(self) -> dict[str, float]:
        """Return what rounding leaves open in each output: one step, or the kernels' distance."""
        if not self.graph.quantized:
            return {}
        tensors = [self.graph.tensors[index] for index in self.graph.outputs]
        steps = {tensor.name: _unit(self.graph, index) for index, tensor in
                 zip(self.graph.outputs, tensors, strict=True)}  # fmt: skip
        try:
            other = Runner(self._exact, plain=True)
        except SmithError:  # an operator that only the delegates have
            return steps
        for _ in range(_DRAWS):
            arrays = self._make(self.specs, {})
            feeds = {s.name: a for s, a in zip(self.specs, arrays, strict=True)}
            one, two = self._runner.run(feeds), other.run(feeds)
            for name in steps:
                apart = np.abs(one[name].astype(np.float64) - two[name].astype(np.float64))
                steps[name] = max(steps[name], _MARGIN * float(apart.max(initial=0.0)))
        return steps

    def _run(self, arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        feeds = {spec.name: array for spec, array in zip(self.specs, arrays, strict=True)}
        found = self._runner.run(feeds)
        return [found[name] for name in self._outputs()]

    def _make(
        self, specs: Sequence[ValueSpec], sizes: Mapping[str, int]
    ) -> list[np.ndarray[Any, Any]]:
        shapes = [example_shape(spec, sizes, tuple(specs)) for spec in specs]
        return [
            _random(spec.dtype, shape, self._generator)
            for spec, shape in zip(specs, shapes, strict=True)
        ]


def _specs(graph: GraphInfo, asked: Sequence[ValueSpec]) -> tuple[ValueSpec, ...]:
    """Return the signature; open dimensions take the names and sizes asked for.

    Raises:
        UsageError: What was asked for does not fit.
    """
    wanted = {spec.name: spec for spec in asked}
    tensors = [graph.tensors[index] for index in graph.inputs]
    for name in wanted:
        if name not in {tensor.name for tensor in tensors}:
            known = ", ".join(tensor.name for tensor in tensors)
            raise UsageError(f"the model has no input {name!r}", f"its inputs: {known}")
    return tuple(_spec(tensor, wanted.get(tensor.name)) for tensor in tensors)


def _spec(tensor: TensorInfo, asked: ValueSpec | None) -> ValueSpec:
    shape = tuple(None if dim < 0 else dim for dim in tensor.shape)
    found = ValueSpec(tensor.name, tensor.dtype, named_dims(shape, tensor.name))
    if asked is None:
        return found
    if asked.dtype != tensor.dtype or asked.shape is None or len(asked.shape) != len(shape):
        raise UsageError(f"--input {asked} does not fit the model", f"its input is {found}")
    for dim, want in zip(shape, asked.shape, strict=True):
        if dim is not None and want != dim:
            raise UsageError(
                f"--input {asked} changes a size that the file fixes", f"its input is {found}"
            )
    return replace(found, shape=asked.shape)


def _unit(graph: GraphInfo, index: int) -> float:
    """Return an output's quantization step: 1 for integers, else that of where it comes from."""
    if graph.tensors[index].dtype != "float32":
        return 1.0
    for operator in graph.operators:
        if index in operator.outputs:
            scales = [graph.tensors[i].scale for i in operator.inputs if i >= 0]
            return max((max(scale) for scale in scales if scale), default=0.0)
    return 0.0


def _random(
    dtype: str, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray[Any, Any]:
    if dtype in ("float32", "float16", "float64"):
        return generator.standard_normal(shape).astype(dtype)
    if dtype in ("int8", "uint8", "int16"):  # quantized values: all of them occur
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max + 1, shape).astype(dtype)
    if dtype == "string":
        raise SmithError("the model takes text, which cannot be compared", "convert another model")
    return generator.integers(0, 2, shape).astype(dtype)


def _refuse_custom(graphs: Sequence[GraphInfo]) -> None:
    for graph in graphs:
        for operator in graph.operators:
            name = operator.custom
            if name and name not in _CONVERTED_CUSTOM and not name.startswith("Flex"):
                raise SmithError(
                    f"the custom operator {name!r} has no counterpart in ONNX",
                    "make the file again from a model without it",
                )


def _versions() -> dict[str, str]:
    found = {}
    for name in ("tensorflow", "tensorflow-cpu", "tf2onnx", "ai-edge-litert"):
        try:
            found[name.removesuffix("-cpu")] = version(name)
        except PackageNotFoundError:  # TensorFlow has one of two names, LiteRT is optional
            continue
    return found
