"""The frontends, one row each, and the choice among them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.environments.places import lock_names
from onnxsmith.pipeline.frontends.base import Frontend, Match
from onnxsmith.pipeline.frontends.sources import check_module
from onnxsmith.plugins import Table

FRONTENDS = Table(
    "frontend",
    "onnxsmith.frontends",
    {
        "caffe": "onnxsmith.pipeline.frontends.caffe.frontend:CaffeFrontend",
        "catboost": "onnxsmith.pipeline.frontends.catboost.frontend:CatboostFrontend",
        "huggingface": "onnxsmith.pipeline.frontends.huggingface.frontend:HuggingFaceFrontend",
        "jax": "onnxsmith.pipeline.frontends.jax.frontend:JaxFrontend",
        "keras": "onnxsmith.pipeline.frontends.keras.frontend:KerasFrontend",
        "layers": "onnxsmith.pipeline.frontends.layers.frontend:LayersFrontend",
        "lightgbm": "onnxsmith.pipeline.frontends.lightgbm.frontend:LightgbmFrontend",
        "mxnet": "onnxsmith.pipeline.frontends.mxnet.frontend:MxnetFrontend",
        "onnx": "onnxsmith.pipeline.frontends.onnx.frontend:OnnxFrontend",
        "paddle": "onnxsmith.pipeline.frontends.paddle.frontend:PaddleFrontend",
        "sklearn": "onnxsmith.pipeline.frontends.sklearn.frontend:SklearnFrontend",
        "tensorflow": "onnxsmith.pipeline.frontends.tensorflow.frontend:TensorflowFrontend",
        "tflite": "onnxsmith.pipeline.frontends.tflite.frontend:TfliteFrontend",
        "torch": "onnxsmith.pipeline.frontends.torch.frontend:TorchFrontend",
        "xgboost": "onnxsmith.pipeline.frontends.xgboost.frontend:XgboostFrontend",
    },
)


def find_frontend(name: str) -> Frontend:
    """Return the frontend called ``name``.

    Raises:
        UsageError: There is none.
    """
    frontend: Frontend = FRONTENDS.find(name)()
    return frontend


def choose_frontend(source: str) -> Frontend:
    """Return the frontend that is surest that ``source`` is its own.

    Raises:
        UsageError: None takes it, or several are equally sure: the hint asks for ``--from``.
        SmithError: It is a callable of a module that is not there.
    """
    if not source:
        raise UsageError("the source is empty", "give a model file or package.module:callable")
    check_module(source)
    return _choose(repr(source), lambda frontend: frontend.match(source))


def choose_for_object(value: object) -> Frontend:
    """Return the frontend that is surest that a live object is its own.

    Raises:
        UsageError: None takes it, or several are equally sure.
    """
    what = f"an object of type {type(value).__qualname__}"
    return _choose(what, lambda frontend: frontend.match_object(value))


def missing_packages(frontend: Frontend) -> tuple[str, ...]:
    """Return the packages that the frontend needs and that are not installed here."""
    return tuple(name for name in frontend.packages if importlib.util.find_spec(name) is None)


def install_command(frontend: Frontend) -> str:
    """Return the command that installs what the frontend needs."""
    if frontend.extra:
        return f"pip install 'onnxsmith[{frontend.extra}]'"
    if frontend.environment in lock_names():  # its packages collide with ours
        return f"onnxsmith env create {frontend.environment}"
    return "pip install onnxsmith"


def require_installed(frontend: Frontend) -> None:
    """Check that the frontend's packages are there.

    Raises:
        SmithError: One is missing; the hint is the command that installs it.
    """
    missing = missing_packages(frontend)
    if missing:
        raise SmithError(
            f"the frontend {frontend.name!r} needs {' and '.join(missing)}, "
            f"which {'is' if len(missing) == 1 else 'are'} not installed",
            install_command(frontend),
        )


def _choose(what: str, match: Callable[[Frontend], Match | None]) -> Frontend:
    found: list[tuple[Match, Frontend]] = []
    for name in FRONTENDS:
        frontend: Frontend = FRONTENDS[name]()
        matched = match(frontend)
        if matched is not None:
            found.append((matched, frontend))
    if not found:
        raise UsageError(
            f"no frontend takes {what}",
            "give a model file or package.module:callable; 'onnxsmith frontends list' shows them",
        )
    best = max(matched.confidence for matched, _ in found)
    equal = [(matched, frontend) for matched, frontend in found if matched.confidence == best]
    if len(equal) > 1:
        reasons = "; ".join(f"{frontend.name}: {matched.reason}" for matched, frontend in equal)
        choices = " or ".join(f"--from {frontend.name}" for _, frontend in equal)
        raise UsageError(f"several frontends take {what} ({reasons})", f"say which: {choices}")
    return equal[0][1]
