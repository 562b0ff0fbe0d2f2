"""A graph and weights of MXNet as a source: read without MXNet, built as ONNX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.mxnet.attributes import DTYPES
from onnxsmith.pipeline.frontends.mxnet.call import SizesNeededError
from onnxsmith.pipeline.frontends.mxnet.files import find_files
from onnxsmith.pipeline.frontends.mxnet.importer import Plan, build
from onnxsmith.pipeline.frontends.mxnet.inputs import find_inputs
from onnxsmith.pipeline.frontends.mxnet.params import StoredArray, read_params
from onnxsmith.pipeline.frontends.mxnet.symbol import Symbol, read_symbol
from onnxsmith.pipeline.frontends.sizes import example_shape
from onnxsmith.spec import ValueSpec

_LARGEST_GUESS = 1024
_LARGEST_EXAMPLE = 2**30  # bytes
# Sizes of height and width to try the model at: networks with many windows need larger ones.
_EXAMPLE_SPACES = (64, 128, 224, 299, 512)
# Where several sizes give the same number of features, the first of these is suggested.
_USUAL = (224, 28, 32, 299, 227, 256, 128, 112, 96, 64, 48, 24, 12)


class MxnetSource:
    """A graph with its weights.

    Args:
        request: Names the files and the inputs.

    Raises:
        SmithError: A file is missing or damaged.
    """

    def __init__(self, request: ConvertRequest) -> None:
        files = find_files(request.source, request.weights)
        self.request = request
        self.warnings = list(files.warnings)
        self.symbol = read_symbol(files.symbol)
        self.params: dict[str, StoredArray] = {}
        if files.params is not None:
            self.params = read_params(files.params).by_name()
        elif any(not node.is_variable and len(node.inputs) > 1 for node in self.symbol.nodes):
            self._require_weights(files.symbol)

    def export(self, folder: Path) -> Export:
        """Write the model as ONNX into ``folder``; see ``Source.export``.

        Raises:
            SmithError: An operator cannot be imported, or sizes are missing.
        """
        plan = Plan.make(self.symbol, self.params)
        specs = self._signature(plan)
        model = self._build(plan, specs)
        examples = self._examples(plan, specs)
        path = folder / "model.onnx"
        Artifact(model).save(path)
        details = {"route": "own importer", "mxnet": _version(self.symbol)}
        return Export(path, examples, details, tuple(self.warnings), runnable=False)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Refuse: MXNet itself is not asked for.

        Raises:
            SmithError: Always.
        """
        raise SmithError("MXNet models are not run by their own framework", "leave parity out")

    def _require_weights(self, symbol: Path) -> None:
        plan = Plan.make(self.symbol, {})
        try:
            plan.inputs()
        except SmithError as error:
            raise SmithError(
                f"there are no weights beside {symbol}", "name their .params file with --weights"
            ) from error

    def _signature(self, plan: Plan) -> dict[str, ValueSpec]:
        specs, open_ = find_inputs(plan, self.request.inputs)
        if open_:
            raise SmithError(
                f"the shape of the input {open_[0][:80]!r} does not follow from the graph",
                f"say it, for example: --input '{open_[0]}:float32[batch,3,224,224]'",
            )
        return specs

    def _examples(self, plan: Plan, specs: Mapping[str, ValueSpec]) -> dict[str, np.ndarray]:
        """Return inputs of sizes that the model takes; their values do not matter."""
        named = tuple(spec for spec in specs.values() if None not in (spec.shape or (None,)))
        space = {
            dim
            for spec in named
            for dim in (spec.shape or ())[2:]
            if isinstance(dim, str) and len(spec.shape or ()) > 3
        }
        dims = dict(self.request.dims)
        for size in _EXAMPLE_SPACES if space - set(dims) else ():
            sized = {**dict.fromkeys(space, size), **dims}
            if _fits(plan, specs, sized, self.request.opset):
                dims = sized
                break
        return {spec.name: _zeros(spec, example_shape(spec, dims, named)) for spec in named}

    def _build(self, plan: Plan, specs: Mapping[str, ValueSpec]) -> ir.Model:
        given = {spec.name for spec in self.request.inputs}
        free = [spec for spec in specs.values() if spec.name not in given]
        try:
            return build(plan, specs, self.request.opset, guessed=_has_space(free))
        except SizesNeededError as error:
            if not free:
                raise
            suggestion = _suggest(plan, specs, free[0], self.request.opset)
            raise SmithError(error.message, f"say the sizes: --input '{suggestion}'") from error


def _fits(plan: Plan, specs: Mapping[str, ValueSpec], sizes: Mapping[str, int], opset: int) -> bool:
    """Return whether the graph can be built with the given sizes."""
    sized = {
        name: replace(
            spec,
            shape=tuple(
                sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape or ()
            ),
        )
        for name, spec in specs.items()
    }
    try:
        build(plan, sized, opset)
    except SmithError:  # a window is larger than what is left to slide over
        return False
    return True


def _zeros(spec: ValueSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Return zeros that take no memory.

    Raises:
        SmithError: The file asks for more than a model is run on.
    """
    dtype = DTYPES[spec.dtype]
    if math.prod(shape) * dtype.bitwidth // 8 > _LARGEST_EXAMPLE:
        raise SmithError(
            f"the input {spec.name[:80]!r} of shape {list(shape)} is too large to be tried",
            "give smaller sizes with --input",
        )
    return np.broadcast_to(np.zeros((), dtype.numpy()), shape)


def _has_space(specs: list[ValueSpec]) -> bool:
    """Return whether a size beside batch and time is open."""
    sizes = {dim for spec in specs for dim in spec.shape or () if isinstance(dim, str)}
    return bool(sizes - {"batch", "time"})


def _suggest(plan: Plan, specs: Mapping[str, ValueSpec], spec: ValueSpec, opset: int) -> str:
    """Return the text of ``--input`` with square sizes that give the features asked for."""
    size = _fitting_size(plan, specs, spec, opset) if len(spec.shape or ()) > 2 else None
    dims = [
        str(size if size and axis > 1 and isinstance(dim, str) else dim)
        for axis, dim in enumerate(spec.shape or ())
    ]
    if size is None and len(dims) == 4:
        dims[2:] = ["224", "224"]
    return f"{spec.name}:{spec.dtype}[{','.join(dims)}]"


def _fitting_size(
    plan: Plan, specs: Mapping[str, ValueSpec], spec: ValueSpec, opset: int
) -> int | None:
    """Find the sizes of height and width by bisection: features grow with them."""

    def too_small(size: int) -> bool | None:
        """Return whether the size gives too few features; None where it fits."""
        dims = tuple(
            size if axis > 1 and isinstance(dim, str) else dim
            for axis, dim in enumerate(spec.shape or ())
        )
        try:
            build(plan, {**specs, spec.name: replace(spec, shape=dims)}, opset)
        except SizesNeededError as error:
            return error.found is None or error.wanted is None or error.found < error.wanted
        except SmithError:  # windows larger than their input
            return True
        return None

    low, high = 1, _LARGEST_GUESS
    fits: int | None = None
    while low <= high:
        middle = (low + high) // 2
        small = too_small(middle)
        if small is None:
            fits = middle
            break
        low, high = (middle + 1, high) if small else (low, middle - 1)
    if fits is None:
        return None
    usual = [size for size in _USUAL if abs(size - fits) <= 64 and too_small(size) is None]
    return usual[0] if usual else fits


def _version(symbol: Symbol) -> str:
    number = symbol.version
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
