"""Export a function of JAX."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.jax.frontend import versions
from onnxsmith.pipeline.frontends.jax.functions import Function
from onnxsmith.pipeline.frontends.jax.inputs import from_examples, from_specs, name_outputs
from onnxsmith.pipeline.frontends.jax.mends import Mends, quiet
from onnxsmith.pipeline.loading import describe, user_code

# Beyond this, weights go to a file of their own: one protobuf holds at most 2 GiB.
_EXTERNAL_BYTES = 512 * 1024**2
_RANDOM = frozenset((
    "random_bits", "random_gamma", "threefry2x32", "rng_uniform", "rng_bit_generator",
))  # fmt: skip


class FunctionSource:
    """A function with its example inputs.

    Args:
        function: The function.
        request: Names and shapes of the inputs.

    Raises:
        SmithError: There are no inputs to export with, the function does not run on them, or it
            draws random numbers.
    """

    def __init__(self, function: Function, request: ConvertRequest) -> None:
        if request.inputs:
            self.inputs = from_specs(function, request.inputs, request.dims, request.seed)
        elif function.examples is not None:
            self.inputs = from_examples(function, function.examples)
        else:
            raise SmithError(
                f"the inputs of {request.source!r} are not known",
                "give --input NAME:DTYPE[D,...], or return (function, example arguments)",
            )
        self.function = function
        self.opset = request.opset
        shapes = ", ".join(str(list(array.shape)) for array in self.inputs.arrays)
        with explained(f"JAX cannot trace the function on inputs of shape {shapes}"):
            jaxpr, output = jax.make_jaxpr(self._call, return_shape=True)(*self.inputs.arrays)
        _refuse_random(jaxpr.jaxpr)
        self.outputs = name_outputs(output, self.inputs.names)
        self._dtypes = [np.dtype(leaf.dtype) for leaf in jax.tree_util.tree_leaves(output)]

    def export(self, folder: Path) -> Export:
        """Export with jax2onnx; see ``Source.export``."""
        model = self._convert()
        for index, value in enumerate(model.graph.outputs):
            _give_name(model.graph, index, value, self.outputs[index])
        self._check_types(model)
        _forget_shapes(model)
        RemoveUnusedNodesPass()(model)
        ShapeInferencePass(strict_mode=False)(model)
        path = folder / "model.onnx"
        total = sum(
            v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value
        )
        ir.save(model, path, external_data="weights" if total > _EXTERNAL_BYTES else None)
        examples = dict(zip(self.inputs.names, self.inputs.arrays, strict=True))
        details = {"route": "jax2onnx", "kind": self.function.kind, "versions": versions()}
        return Export(path, examples, details)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the function itself; see ``Source.reference``."""
        arrays = tuple(jnp.asarray(feeds[name]) for name in self.inputs.names)
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        with user_code(f"running the function on inputs of shape {shapes}"):
            leaves = jax.tree_util.tree_leaves(self._call(*arrays))
        return {n: np.asarray(leaf) for n, leaf in zip(self.outputs, leaves, strict=True)}

    def _call(self, *arrays: Any) -> Any:
        return self.inputs.call(self.function, arrays)

    def _convert(self) -> ir.Model:
        with _silent(), quiet():
            import jax2onnx

            mends = Mends()

            def traced(*arrays: Any) -> Any:
                with mends.applied():
                    return tuple(jax.tree_util.tree_leaves(self._call(*arrays)))

            pairs = zip(self.inputs.shapes, self.inputs.arrays, strict=True)
            with explained("jax2onnx cannot export the function"):
                model: ir.Model = jax2onnx.to_onnx(
                    traced,
                    [jax.ShapeDtypeStruct(shape, array.dtype) for shape, array in pairs],
                    opset=self.opset,
                    input_names=list(self.inputs.names),
                    model_name="main_graph",
                    enable_double_precision=self._is_double(),
                    normalization_mode="prefer_native",
                    return_mode="ir",
                )
        return model

    def _is_double(self) -> bool:
        found = {*self._dtypes, *(array.dtype for array in self.inputs.arrays)}
        return bool(found & {np.dtype(np.float64), np.dtype(np.complex128)})

    def _check_types(self, model: ir.Model) -> None:
        """Refuse what jax2onnx widens or narrows without a word, as it does in 64-bit mode.

        Raises:
            SmithError: An input or output came out with another element type.
        """
        wanted = [*(array.dtype for array in self.inputs.arrays), *self._dtypes]
        for value, dtype in zip((*model.graph.inputs, *model.graph.outputs), wanted, strict=True):
            if value.dtype is None or value.dtype.numpy() == dtype:
                continue
            raise SmithError(
                f"jax2onnx makes {value.name!r} {value.dtype.numpy().name}, where the function "
                f"has {dtype.name}",
                "compute in one precision: cast the inputs, the weights and the outputs to it",
            )


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what JAX and jax2onnx raise into one line of what and one of how to mend it."""
    try:
        yield
    except SmithError:
        raise
    except Exception as error:  # jax2onnx has no common base
        text = f"{type(error).__name__}: {error}"
        usual = "write sizes instead of names in --input, or other operations in the code"
        hint = next((hint for part, hint in _HINTS.items() if part in text), usual)
        why = describe(error).partition(" The error occurred while tracing")[0]  # a place in a file
        raise SmithError(f"{what}: {why}", hint) from error


_HINTS = {
    "Reverse scan": "run lax.scan forward over jnp.flip(xs, 0), and flip what it stacks",
    "No plugins registered": "jax2onnx does not know this operation: compute it from others",
    "ConcretizationTypeError": "the function branches on values: use jax.lax.cond or jnp.where",
    "TracerBoolConversionError": "the function branches on values: use jax.lax.cond or jnp.where",
    "TracerIntegerConversionError": "the function needs a value of an input as a number: fix it",
    "TracerArrayConversionError": "numpy, or the bound of a loop, meets an input: use jax.numpy, "
    "and a fixed bound or lax.while_loop",
    "InconclusiveDimension": "the function's shapes depend on a size: write that size in --input",
}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _give_name(graph: ir.Graph, index: int, value: ir.Value, name: str) -> None:
    """Name an output; one that is an input, a weight or another output too gets a node."""
    others = (*graph.inputs, *graph.initializers.values(), *list(graph.outputs)[:index])
    if any(value is other for other in others):
        node = ir.node("Identity", [value])
        graph.append(node)
        output = node.outputs[0]
        output.type, output.shape = value.type, value.shape
        graph.outputs[index] = value = output
    value.name = name


def _forget_shapes(model: ir.Model) -> None:
    """Drop the shapes of inner values: around transposes and poolings jax2onnx gets them wrong."""
    outputs = set(model.graph.outputs)
    for graph in model.graphs():
        for node in graph:
            for value in node.outputs:
                if value not in outputs:
                    value.shape = None


def _refuse_random(jaxpr: Any) -> None:
    """Refuse a function that draws random numbers: ONNX's would be others, and never the same.

    Raises:
        SmithError: It does.
    """
    for equation in jaxpr.eqns:
        if equation.primitive.name in _RANDOM:
            raise SmithError(
                "the function draws random numbers",
                "export it as it is used for inference: with deterministic=True, inference=True "
                "or model.eval(), so that dropout does nothing",
            )
        for value in jax.tree_util.tree_leaves(list(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                _refuse_random(inner)
