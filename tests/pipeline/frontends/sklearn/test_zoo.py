"""Every estimator that skl2onnx has a converter for, fitted on data that suits it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    random_projection,
    svm,
    tree,
)
from sklearn.feature_extraction import text

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.convert import convert

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 6)) * [3.0, 1.0, 0.2, 10.0, 2.0, 1.0]
CLASSES = (X[:, 0] + X[:, 1] * X[:, 4] > 0).astype(int) + (X[:, 3] > 0)
BINARY = (CLASSES > 0).astype(int)
TARGET = X[:, 0] * 2 - X[:, 1] ** 2 + 0.1 * X[:, 3] + RNG.normal(size=150) * 0.1
POSITIVE = np.abs(TARGET) + 0.1
TARGETS = np.stack([TARGET, X[:, 1] + X[:, 2]], axis=1)
COUNTS = RNG.integers(0, 5, (150, 6)).astype(float)
HOLES = np.where(RNG.random(X.shape) < 0.15, np.nan, X)
TEXTS = np.array(
    ["the cat sat on the mat", "a dog ate my homework", "Cats and dogs", "no pets here!"] * 20
)
TEXT_CLASSES = np.arange(80) % 2
KINDS = np.array([["red", "small"], ["green", "large"], ["blue", "small"]] * 20, dtype=object)
KIND_CLASSES = np.arange(60) % 2

L = linear_model
E = ensemble
P = preprocessing


def _seeded(kind: Any, **options: Any) -> Any:
    return kind(random_state=0, **options)


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "AdaBoostClassifier": lambda: _seeded(E.AdaBoostClassifier, n_estimators=5),
    "BaggingClassifier": lambda: _seeded(E.BaggingClassifier, n_estimators=4),
    "CalibratedClassifierCV": lambda: calibration.CalibratedClassifierCV(
        tree.DecisionTreeClassifier(max_depth=3, random_state=0), cv=2
    ),
    "DecisionTreeClassifier": lambda: _seeded(tree.DecisionTreeClassifier),
    "ExtraTreeClassifier": lambda: _seeded(tree.ExtraTreeClassifier),
    "ExtraTreesClassifier": lambda: _seeded(E.ExtraTreesClassifier, n_estimators=5),
    "GaussianNB": naive_bayes.GaussianNB,
    "BernoulliNB": naive_bayes.BernoulliNB,
    "GaussianProcessClassifier": gaussian_process.GaussianProcessClassifier,
    "GradientBoostingClassifier": lambda: _seeded(E.GradientBoostingClassifier, n_estimators=5),
    "HistGradientBoostingClassifier": lambda: _seeded(E.HistGradientBoostingClassifier, max_iter=5),
    "KNeighborsClassifier": neighbors.KNeighborsClassifier,
    "RadiusNeighborsClassifier": lambda: neighbors.RadiusNeighborsClassifier(
        radius=100.0, weights="distance"
    ),
    "LinearDiscriminantAnalysis": discriminant_analysis.LinearDiscriminantAnalysis,
    "QuadraticDiscriminantAnalysis": discriminant_analysis.QuadraticDiscriminantAnalysis,
    "LinearSVC": lambda: _seeded(svm.LinearSVC),
    "SVC": svm.SVC,
    "NuSVC": lambda: svm.NuSVC(nu=0.2),
    "LogisticRegression": L.LogisticRegression,
    "LogisticRegressionCV": lambda: L.LogisticRegressionCV(Cs=2, cv=2),
    "MLPClassifier": lambda: _seeded(neural_network.MLPClassifier, hidden_layer_sizes=(8,)),
    "OneVsOneClassifier": lambda: multiclass.OneVsOneClassifier(L.LogisticRegression()),
    "OneVsRestClassifier": lambda: multiclass.OneVsRestClassifier(L.LogisticRegression()),
    "PassiveAggressiveClassifier": lambda: _seeded(L.PassiveAggressiveClassifier),
    "Perceptron": lambda: _seeded(L.Perceptron),
    "RandomForestClassifier": lambda: _seeded(E.RandomForestClassifier, n_estimators=5),
    "RidgeClassifier": L.RidgeClassifier,
    "RidgeClassifierCV": L.RidgeClassifierCV,
    "SGDClassifier": lambda: _seeded(L.SGDClassifier, loss="log_loss"),
    "StackingClassifier": lambda: E.StackingClassifier(
        [("a", L.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3))], cv=2
    ),
    "VotingClassifier": lambda: E.VotingClassifier(
        [("a", L.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3))],
        voting="soft",
    ),
    "GridSearchCV": lambda: model_selection.GridSearchCV(
        L.LogisticRegression(), {"C": [0.1, 1.0]}, cv=2
    ),
}
BINARY_ONLY = {
    "TunedThresholdClassifierCV": lambda: model_selection.TunedThresholdClassifierCV(
        L.LogisticRegression(), cv=2
    ),
}
COUNT_CLASSIFIERS = {
    "CategoricalNB": naive_bayes.CategoricalNB,
    "ComplementNB": naive_bayes.ComplementNB,
    "MultinomialNB": naive_bayes.MultinomialNB,
}

REGRESSORS: dict[str, Callable[[], Any]] = {
    "ARDRegression": L.ARDRegression,
    "AdaBoostRegressor": lambda: _seeded(E.AdaBoostRegressor, n_estimators=5),
    "BaggingRegressor": lambda: _seeded(E.BaggingRegressor, n_estimators=4),
    "BayesianRidge": L.BayesianRidge,
    "DecisionTreeRegressor": lambda: _seeded(tree.DecisionTreeRegressor),
    "ElasticNet": L.ElasticNet,
    "ElasticNetCV": lambda: L.ElasticNetCV(cv=2),
    "ExtraTreeRegressor": lambda: _seeded(tree.ExtraTreeRegressor),
    "ExtraTreesRegressor": lambda: _seeded(E.ExtraTreesRegressor, n_estimators=5),
    "GaussianProcessRegressor": lambda: gaussian_process.GaussianProcessRegressor(
        gaussian_process.kernels.RBF(3.0), alpha=0.1, normalize_y=True
    ),
    "GradientBoostingRegressor": lambda: _seeded(E.GradientBoostingRegressor, n_estimators=5),
    "HistGradientBoostingRegressor": lambda: _seeded(E.HistGradientBoostingRegressor, max_iter=5),
    "HuberRegressor": L.HuberRegressor,
    "KNeighborsRegressor": neighbors.KNeighborsRegressor,
    "RadiusNeighborsRegressor": lambda: neighbors.RadiusNeighborsRegressor(radius=100.0),
    "Lars": L.Lars,
    "LarsCV": lambda: L.LarsCV(cv=2),
    "Lasso": L.Lasso,
    "LassoCV": lambda: L.LassoCV(cv=2),
    "LassoLars": L.LassoLars,
    "LassoLarsCV": lambda: L.LassoLarsCV(cv=2),
    "LassoLarsIC": L.LassoLarsIC,
    "LinearRegression": L.LinearRegression,
    "LinearSVR": lambda: _seeded(svm.LinearSVR),
    "MLPRegressor": lambda: _seeded(neural_network.MLPRegressor, hidden_layer_sizes=(8,)),
    "NuSVR": svm.NuSVR,
    "OrthogonalMatchingPursuit": L.OrthogonalMatchingPursuit,
    "OrthogonalMatchingPursuitCV": lambda: L.OrthogonalMatchingPursuitCV(cv=2),
    "PLSRegression": cross_decomposition.PLSRegression,
    "PassiveAggressiveRegressor": lambda: _seeded(L.PassiveAggressiveRegressor),
    "QuantileRegressor": L.QuantileRegressor,
    "RANSACRegressor": lambda: _seeded(L.RANSACRegressor),
    "RandomForestRegressor": lambda: _seeded(E.RandomForestRegressor, n_estimators=5),
    "Ridge": L.Ridge,
    "RidgeCV": L.RidgeCV,
    "SGDRegressor": lambda: _seeded(L.SGDRegressor, eta0=1e-4),
    "SVR": svm.SVR,
    "StackingRegressor": lambda: E.StackingRegressor(
        [("a", L.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))], cv=2
    ),
    "TheilSenRegressor": lambda: _seeded(L.TheilSenRegressor, max_subpopulation=50),
    "VotingRegressor": lambda: E.VotingRegressor(
        [("a", L.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))]
    ),
}
POSITIVE_REGRESSORS = {
    "GammaRegressor": L.GammaRegressor,
    "PoissonRegressor": L.PoissonRegressor,
    "TweedieRegressor": lambda: L.TweedieRegressor(power=1.5),
}
MULTI_REGRESSORS = {
    "MultiOutputRegressor": lambda: multioutput.MultiOutputRegressor(L.Ridge()),
    "MultiTaskElasticNet": L.MultiTaskElasticNet,
    "MultiTaskElasticNetCV": lambda: L.MultiTaskElasticNetCV(cv=2),
    "MultiTaskLasso": L.MultiTaskLasso,
    "MultiTaskLassoCV": lambda: L.MultiTaskLassoCV(cv=2),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "BayesianGaussianMixture": lambda: _seeded(mixture.BayesianGaussianMixture, n_components=2),
    "Binarizer": lambda: P.Binarizer(threshold=0.3),
    "GaussianMixture": lambda: _seeded(mixture.GaussianMixture, n_components=2),
    "GaussianRandomProjection": lambda: _seeded(
        random_projection.GaussianRandomProjection, n_components=3
    ),
    "IncrementalPCA": lambda: decomposition.IncrementalPCA(3),
    "IsolationForest": lambda: _seeded(E.IsolationForest, n_estimators=5),
    "KBinsDiscretizer": lambda: P.KBinsDiscretizer(4, encode="ordinal"),
    "KMeans": lambda: _seeded(cluster.KMeans, n_clusters=3, n_init=1),
    "KNNImputer": impute.KNNImputer,
    "KNeighborsTransformer": lambda: neighbors.KNeighborsTransformer(mode="distance"),
    "KernelPCA": lambda: decomposition.KernelPCA(3, kernel="rbf", gamma=0.02),
    "LocalOutlierFactor": lambda: neighbors.LocalOutlierFactor(novelty=True),
    "MaxAbsScaler": P.MaxAbsScaler,
    "MinMaxScaler": lambda: P.MinMaxScaler(clip=True),
    "MiniBatchKMeans": lambda: _seeded(cluster.MiniBatchKMeans, n_clusters=3, n_init=1),
    "NearestNeighbors": neighbors.NearestNeighbors,
    "Normalizer": P.Normalizer,
    "OneClassSVM": svm.OneClassSVM,
    "PCA": lambda: decomposition.PCA(3, whiten=True),
    "PolynomialFeatures": lambda: P.PolynomialFeatures(3),
    "PowerTransformer": P.PowerTransformer,
    "QuantileTransformer": lambda: P.QuantileTransformer(n_quantiles=20),
    "RobustScaler": P.RobustScaler,
    "SGDOneClassSVM": lambda: _seeded(L.SGDOneClassSVM),
    "SimpleImputer": impute.SimpleImputer,
    "StandardScaler": P.StandardScaler,
    "TruncatedSVD": lambda: decomposition.TruncatedSVD(3),
    "VarianceThreshold": lambda: feature_selection.VarianceThreshold(0.5),
    "FunctionTransformer": P.FunctionTransformer,
    "RandomTreesEmbedding": lambda: _seeded(E.RandomTreesEmbedding, n_estimators=3),
}
SUPERVISED_OTHERS: dict[str, Callable[[], Any]] = {
    "GenericUnivariateSelect": lambda: feature_selection.GenericUnivariateSelect(
        mode="k_best", param=3
    ),
    "NeighborhoodComponentsAnalysis": lambda: _seeded(
        neighbors.NeighborhoodComponentsAnalysis, n_components=2
    ),
    "RFE": lambda: feature_selection.RFE(L.LogisticRegression()),
    "RFECV": lambda: feature_selection.RFECV(L.LogisticRegression(), cv=2),
    "SelectFdr": feature_selection.SelectFdr,
    "SelectFpr": feature_selection.SelectFpr,
    "SelectFromModel": lambda: feature_selection.SelectFromModel(L.LogisticRegression()),
    "SelectFwe": feature_selection.SelectFwe,
    "SelectKBest": lambda: feature_selection.SelectKBest(k=3),
    "SelectPercentile": lambda: feature_selection.SelectPercentile(percentile=50),
}
# Not converted alone, or not at all; tests say why.
ELSEWHERE = {
    "CastRegressor": "an estimator of skl2onnx itself",
    "CastTransformer": "an estimator of skl2onnx itself",
    "ReplaceTransformer": "an estimator of skl2onnx itself",
    "_ConstantPredictor": "a part of OneVsRestClassifier",
    "DictVectorizer": "refused",
    "FeatureHasher": "refused",
    "LabelEncoder": "refused",
    "LabelBinarizer": "refused",
    "KernelCenterer": "refused",
}


def fit(estimator: Any, *data: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(*data)


def zoo() -> dict[str, Callable[[], Any]]:
    """A builder of a fitted estimator for each converter."""
    groups: list[tuple[dict[str, Callable[[], Any]], tuple[Any, ...]]] = [
        (CLASSIFIERS, (X, CLASSES)),
        (BINARY_ONLY, (X, BINARY)),
        (COUNT_CLASSIFIERS, (COUNTS, CLASSES)),
        (REGRESSORS, (X, TARGET)),
        (POSITIVE_REGRESSORS, (X, POSITIVE)),
        (MULTI_REGRESSORS, (X, TARGETS)),
        (OTHERS, (X,)),
        (SUPERVISED_OTHERS, (X, CLASSES)),
    ]
    found = {
        name: (lambda make=make, data=data: fit(make(), *data))
        for group, data in groups
        for name, make in group.items()
    }
    found |= {
        f"{name}-binary": (lambda make=make: fit(make(), X, BINARY))
        for name, make in CLASSIFIERS.items()
    }
    return found | {
        "MultiOutputClassifier": lambda: fit(
            multioutput.MultiOutputClassifier(L.LogisticRegression()),
            X,
            np.stack([BINARY, CLASSES], axis=1),
        ),
        "CountVectorizer": lambda: fit(text.CountVectorizer(), TEXTS),
        "TfidfVectorizer": lambda: fit(text.TfidfVectorizer(), TEXTS),
        "TfidfTransformer": lambda: fit(text.TfidfTransformer(), COUNTS),
        "OneHotEncoder": lambda: fit(P.OneHotEncoder(handle_unknown="ignore"), KINDS),
        "OneHotEncoder-numbers": lambda: fit(P.OneHotEncoder(), COUNTS),
        "OrdinalEncoder": lambda: fit(P.OrdinalEncoder(), KINDS),
        "TargetEncoder": lambda: fit(P.TargetEncoder(cv=2), KINDS, KIND_CLASSES),
        "SimpleImputer-holes": lambda: fit(impute.SimpleImputer(strategy="median"), HOLES),
        "KNNImputer-holes": lambda: fit(impute.KNNImputer(n_neighbors=3), HOLES),
        "DecisionTreeClassifier-holes": lambda: fit(
            tree.DecisionTreeClassifier(random_state=0), HOLES, CLASSES
        ),
        "RandomForestRegressor-holes": lambda: fit(
            E.RandomForestRegressor(5, random_state=0), HOLES, TARGET
        ),
        "HistGradientBoostingClassifier-holes": lambda: fit(
            E.HistGradientBoostingClassifier(max_iter=5), HOLES, CLASSES
        ),
        "HistGradientBoostingRegressor-log": lambda: fit(
            E.HistGradientBoostingRegressor(max_iter=5, loss="poisson"), X, POSITIVE
        ),
        "HistGradientBoostingClassifier-categories": lambda: fit(
            E.HistGradientBoostingClassifier(max_iter=5, categorical_features=[1, 4]),
            COUNTS,
            CLASSES,
        ),
        "Pipeline": lambda: fit(
            pipeline.make_pipeline(P.StandardScaler(), "passthrough", L.LogisticRegression()),
            X,
            np.array(["no", "maybe", "yes"])[CLASSES],
        ),
        "Pipeline-text": lambda: fit(
            pipeline.make_pipeline(text.TfidfVectorizer(), L.LogisticRegression()),
            TEXTS,
            TEXT_CLASSES,
        ),
        "FeatureUnion": lambda: fit(
            pipeline.FeatureUnion([("a", P.StandardScaler()), ("b", decomposition.PCA(2))]), X
        ),
        "ColumnTransformer": lambda: fit(
            compose.ColumnTransformer(
                [("a", P.StandardScaler(), [0, 1]), ("b", P.MinMaxScaler(), slice(3, 5))],
                remainder="passthrough",
            ),
            X,
        ),
    }


REFUSED = {
    "GaussianProcessClassifier": "solves linear equations",
    "GaussianProcessClassifier-binary": "solves linear equations",
    "OneVsOneClassifier-binary": "does not convert a OneVsOneClassifier of two classes",
}
# scikit-learn 1.8 announces the end of PassiveAggressive*.
pytestmark = pytest.mark.filterwarnings("ignore:Class PassiveAggressive:FutureWarning")


@pytest.mark.parametrize("name", sorted(zoo().keys() - REFUSED))
def test_an_estimator_computes_what_scikit_learn_computes(name: str) -> None:
    result = convert(zoo()[name]())  # raises where an output differs
    assert result.parity


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_what_cannot_be_converted_is_named(name: str, reason: str) -> None:
    with pytest.raises(SmithError, match=reason):
        convert(zoo()[name]())
