"""The frontend ``tensorflow``: SavedModels, frozen graphs and functions, through tf2onnx."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.sources import imported_packages, top_classes
from onnxsmith.pipeline.frontends.table import require_installed
from onnxsmith.pipeline.frontends.tensorflow.sniff import is_graph_file, saved_model_folder
from onnxsmith.pipeline.loading import is_callable_name, load_callable, user_code

_LIVE = {
    "tensorflow.ConcreteFunction",
    "tensorflow.Function",
    "tensorflow.Graph",
    "tensorflow.GraphDef",
    "tensorflow.AutoTrackable",
    "tensorflow.Module",
}


class TensorflowFrontend:
    """TensorFlow: SavedModel folders, frozen ``.pb`` graphs, tf.function and tf.Module."""

    name: ClassVar[str] = "tensorflow"
    extra: ClassVar[str] = "tensorflow"
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf2onnx")
    accepts: ClassVar[str] = (
        "SavedModel folders (--part SIGNATURE); frozen .pb graphs (--part OUTPUT,...); "
        "module:callable that returns a tf.function, a tf.Module or a graph"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "tensorflow"

    def match(self, source: str) -> Match | None:
        """Take folders that hold a SavedModel, ``.pb`` files, and callables that use TensorFlow."""
        if not is_callable_name(source):
            if saved_model_folder(source) is not None:
                return Match(0.9, "it holds a SavedModel")
            if source.lower().endswith(".pb"):
                return Match(0.8, "the suffix is .pb")
            return None
        if "tensorflow" in imported_packages(source):
            return Match(0.8, "its module imports tensorflow")
        return None

    def match_object(self, value: object) -> Match | None:
        """Take live functions, modules and graphs."""
        if top_classes(value) & _LIVE:
            return Match(0.8, "it is a function, a module or a graph of TensorFlow")
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Load the SavedModel or graph, or call the callable.

        Raises:
            SmithError: It is missing, damaged, or of another kind.
            UsageError: The part is not in it.
        """
        require_installed(self)
        _refuse_weights(request)
        if is_callable_name(request.source):
            build = load_callable(request.source)
            import tensorflow as tf

            tf.random.set_seed(request.seed)
            with user_code(f"calling {request.source!r}"):
                # A tf.function is what is wanted itself; calling it would run it.
                value = build if self.match_object(build) else build()
            return self.adopt(value, request)
        from onnxsmith.pipeline.frontends.tensorflow.graphdef import load_graph
        from onnxsmith.pipeline.frontends.tensorflow.saved import load_saved_model
        from onnxsmith.pipeline.frontends.tensorflow.source import FunctionSource

        folder = saved_model_folder(request.source)
        if folder is not None:
            return FunctionSource(load_saved_model(folder, request), request)
        path = Path(request.source)
        if not path.is_file():
            raise SmithError(
                f"{path} is no SavedModel: it holds no saved_model.pb",
                "give the folder that tf.saved_model.save wrote",
            )
        if not is_graph_file(path):
            raise SmithError(
                f"{path} is not a frozen graph: it does not begin with a node",
                "give a GraphDef in binary form, or the folder of a SavedModel",
            )
        return FunctionSource(load_graph(path, request), request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live function, module or graph.

        Raises:
            SmithError: It is something else, or its inputs are not known.
        """
        require_installed(self)
        _refuse_weights(request)
        from onnxsmith.pipeline.frontends.tensorflow.live import load_live
        from onnxsmith.pipeline.frontends.tensorflow.source import FunctionSource

        return FunctionSource(load_live(value, request), request)


def _refuse_weights(request: ConvertRequest) -> None:
    if request.weights is not None:
        raise SmithError(
            "TensorFlow's models hold their weights themselves", "leave --weights away"
        )
