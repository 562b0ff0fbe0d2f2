"""The frontend ``jax``: functions of JAX, and modules of Flax and Equinox, through jax2onnx."""

from __future__ import annotations

import inspect
import sys
from importlib.metadata import version
from types import FunctionType, ModuleType
from typing import Any, ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.sources import imported_packages, top_classes
from onnxsmith.pipeline.frontends.table import require_installed
from onnxsmith.pipeline.loading import is_callable_name, load_callable, user_code

_PACKAGES = frozenset(("jax", "flax", "equinox"))


class JaxFrontend:
    """JAX: ``module:callable`` that is or returns a function, or a module of Flax or Equinox."""

    name: ClassVar[str] = "jax"
    # jax2onnx requires the CPU runtime, which cannot lie beside the GPU one: no extra can name it.
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ("jax", "jax2onnx")
    accepts: ClassVar[str] = (
        "module:callable that is a function of arrays, or returns one or a module of Flax or "
        "Equinox"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "jax"

    def match(self, source: str) -> Match | None:
        """Take callables of modules that import jax, flax or equinox."""
        if not is_callable_name(source):
            return None
        found = sorted(_PACKAGES & imported_packages(source))
        return Match(0.8, f"its module imports {found[0]}") if found else None

    def match_object(self, value: object) -> Match | None:
        """Take live modules, functions whose module uses JAX, and pairs that start with one."""
        if isinstance(value, tuple) and value and not isinstance(value[0], tuple):
            return self.match_object(value[0])
        classes = top_classes(value)
        if classes & {"flax.Module", "equinox.Module"}:
            return Match(1.0, "it is a module of Flax or Equinox")
        if any(name.startswith("jaxlib.") for name in classes) and callable(value):
            return Match(1.0, "it is a function that jax.jit made")
        if isinstance(value, FunctionType) and _uses_jax(value):
            return Match(0.6, "it is a function whose module uses JAX")
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Find the function, or call the callable for it.

        Raises:
            SmithError: The source is a file; the callable fails or returns something else.
        """
        require_installed(self)
        if not is_callable_name(request.source):
            raise SmithError(
                f"{request.source!r} is no callable, and JAX has no files of models",
                "give module:callable: a function, or one that returns a function or a module",
            )
        found = load_callable(request.source)
        module = sys.modules[request.source.partition(":")[0]]
        if _takes_inputs(found, request.source):
            return self._source(found, request, _examples(module))
        with user_code(f"calling {request.source!r}"):
            value = found()
        return self._source(value, request, _examples(module))

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live function or module, alone or in a tuple with variables or examples.

        Raises:
            SmithError: It is neither.
        """
        require_installed(self)
        return self._source(value, request, None)

    def _source(self, value: object, request: ConvertRequest, examples: Any) -> Source:
        from onnxsmith.pipeline.frontends.jax.functions import as_function
        from onnxsmith.pipeline.frontends.jax.source import FunctionSource

        if request.weights is not None:
            raise SmithError(
                "a JAX function holds its weights itself",
                "leave --weights away, and load them in the callable",
            )
        return FunctionSource(as_function(value, request.source, examples), request)


def versions() -> dict[str, str]:
    """Return the versions that decide what an export looks like."""
    return {name: version(name) for name in ("jax", "jax2onnx")}


def _takes_inputs(found: Any, source: str) -> bool:
    """Say whether a callable is the model itself: it has parameters that must be given.

    Raises:
        SmithError: It is a class that wants arguments.
    """
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return True
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
    if needed and inspect.isclass(found):
        raise SmithError(
            f"the class {source!r} wants arguments: {', '.join(needed)}",
            "name a function that builds the module",
        )
    return bool(needed)


def _examples(module: ModuleType) -> Any:
    """Return ``example_inputs`` of the callable's module: arrays, or what a function makes."""
    examples = getattr(module, "example_inputs", None)
    if not callable(examples):
        return examples
    with user_code("calling 'example_inputs'"):
        return examples()


def _uses_jax(function: FunctionType) -> bool:
    inner = inspect.unwrap(function)
    spaces = [vars(inner).get("__globals__", {}), getattr(inner, "__globals__", {})]
    names = {
        (value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None))
        for space in spaces
        for value in list(space.values())
    }
    return any(str(name).partition(".")[0] in _PACKAGES for name in names)
