"""Load SavedModels, those of TensorFlow 1 included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.saved_model import loader_impl

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.tensorflow.mends import optimizer_slots
from onnxsmith.pipeline.frontends.tensorflow.source import Loaded
from onnxsmith.pipeline.loading import describe

_USUAL = "serving_default"
_SERVE = "serve"
_MAX_BYTES = 2**31 - 1


def load_saved_model(folder: Path, request: ConvertRequest) -> Loaded:
    """Load a SavedModel and choose the signature ``--part`` or the usual one.

    Raises:
        SmithError: The folder is damaged, or holds nothing to call.
        UsageError: There is no such signature, or several and none is the usual one.
    """
    for path in (folder / "saved_model.pb", folder / "saved_model.pbtxt"):
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise SmithError(f"{path} is larger than 2 GB", "save the model with variables")
    try:
        tags = _tags(folder)
        with tf.device("/cpu:0"), optimizer_slots():
            model = tf.saved_model.load(str(folder), tags=tags)
    except UsageError:
        raise
    except Exception as error:  # the loader fails with any type on a damaged folder
        raise SmithError(
            f"{folder} cannot be loaded as a SavedModel: {describe(error)}",
            "save it again with tf.saved_model.save or model.export",
        ) from error
    name, function = choose_function(model, request.part, str(folder))
    return Loaded(function, model, f"SavedModel, {name}")


def choose_function(model: Any, part: str | None, what: str) -> tuple[str, Any]:
    """Return the name and the ``ConcreteFunction`` of a signature or method of a model.

    Raises:
        SmithError: There is nothing to call.
        UsageError: The part is not there, or there are several and none is the usual one.
    """
    signatures = {k: f for k, f in getattr(model, "signatures", {}).items() if k[:1] != "_"}
    methods = _methods(model)
    found = {**methods, **signatures}
    if part is not None:
        if part not in found:
            raise UsageError(
                f"{what} has no part {part!r}", f"its parts: {', '.join(found) or 'none'}"
            )
        return part, found[part]
    if _USUAL in signatures:
        return _USUAL, signatures[_USUAL]
    choices = signatures or methods
    if len(choices) == 1 or "__call__" in choices:
        name = "__call__" if "__call__" in choices else next(iter(choices))
        return name, choices[name]
    if not choices:
        raise SmithError(
            f"{what} holds no signature and no function with a fixed signature",
            "save it with signatures=..., or call its tf.function once before",
        )
    raise UsageError(
        f"{what} holds several signatures and none is called {_USUAL!r}",
        f"choose one with --part: {', '.join(choices)}",
    )


def _methods(model: Any) -> dict[str, Any]:
    """Return the functions of a model that were traced with one signature, by attribute."""
    found = {}
    names = [name for name in dir(model) if not name.startswith("_")] if model is not None else []
    for name in (*names, "__call__"):
        value = getattr(model, name, None)
        traced = getattr(value, "concrete_functions", None)
        if isinstance(value, tf.types.experimental.PolymorphicFunction):
            traced = value._list_all_concrete_functions()
        if traced is not None and len(traced) == 1:
            found[name] = traced[0]
    return found


def _tags(folder: Path) -> list[str] | None:
    """Return the tags to load: None where there is but one graph, else those for serving."""
    graphs = loader_impl.parse_saved_model(str(folder)).meta_graphs
    if len(graphs) <= 1:
        return None
    if any(list(graph.meta_info_def.tags) == [_SERVE] for graph in graphs):
        return [_SERVE]
    raise UsageError(
        f"{folder} holds several graphs and none is tagged {_SERVE!r}",
        "save it again with the one that is wanted",
    )
