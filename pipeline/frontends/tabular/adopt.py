"""Which library a live model of tables belongs to, and its source.

A module that imports two of these libraries does not tell which of them its callable returns, and
a pipeline of scikit-learn may end in a booster of another library: whichever of the frontends was
chosen hands the object to the right one.
"""

from __future__ import annotations

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.sources import imported_packages, top_classes
from onnxsmith.pipeline.loading import load_callable, user_code

# A class that a library's models derive from, to the library's frontend. Boosters derive from
# scikit-learn's BaseEstimator too, so it comes last.
_CLASSES = {
    "xgboost.Booster": "xgboost",
    "xgboost.XGBModel": "xgboost",
    "lightgbm.Booster": "lightgbm",
    "lightgbm.LGBMModel": "lightgbm",
    "catboost.CatBoost": "catboost",
    "sklearn.BaseEstimator": "sklearn",
}
# Where a module imports several, the rarer one tells more; whichever is chosen, the object decides.
_CONFIDENCE = {"xgboost": 0.87, "lightgbm": 0.86, "catboost": 0.85, "sklearn": 0.8}


def library_of(value: object) -> str | None:
    """Return the frontend whose own a live object is, or None; imports nothing."""
    classes = top_classes(value)
    return next((name for cls, name in _CLASSES.items() if cls in classes), None)


def match_object(value: object, name: str) -> Match | None:
    """Return how sure the frontend ``name`` is of a live object."""
    if library_of(value) != name:
        return None
    return Match(1.0 if name != "sklearn" else 0.9, f"it is a model of {name}")


def match_callable(source: str, name: str) -> Match | None:
    """Return how sure the frontend ``name`` is of ``module:callable``, by the module's imports."""
    if name in imported_packages(source):
        return Match(_CONFIDENCE[name], f"its module imports {name}")
    return None


def open_callable(request: ConvertRequest) -> Source:
    """Call ``module:callable`` and adopt what it returns.

    Raises:
        SmithError: It fails, or returns none of the libraries' fitted models.
    """
    build = load_callable(request.source)
    with user_code(f"calling {request.source!r}"):
        value = build()
    return adopt(value, request)


def adopt(value: object, request: ConvertRequest) -> Source:
    """Return the source of a live model.

    Raises:
        SmithError: It is of another kind, or not fitted.
    """
    if request.weights is not None:
        raise SmithError("the model has no separate weights", "leave --weights away")
    if request.part is not None:
        raise SmithError("the model has no parts", "leave --part away")
    library = library_of(value)
    if library == "xgboost":
        from onnxsmith.pipeline.frontends.xgboost.source import booster_source

        return booster_source(value, request)
    if library == "lightgbm":
        from onnxsmith.pipeline.frontends.lightgbm.source import booster_source

        return booster_source(value, request)
    if library == "catboost":
        from onnxsmith.pipeline.frontends.catboost.source import model_source

        return model_source(value, request)
    if library == "sklearn":
        from onnxsmith.pipeline.frontends.sklearn.source import EstimatorSource

        return EstimatorSource(value, request)
    raise SmithError(
        f"{request.source!r} is a {type(value).__name__}, not a model",
        "return a fitted estimator of scikit-learn, XGBoost, LightGBM or CatBoost",
    )
