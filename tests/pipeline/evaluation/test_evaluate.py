"""The choice of outputs and the handling of batches, with models as plain functions."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data.base import Batch
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.spec import ModelSpec, ValueSpec

RNG = np.random.default_rng(5)


@dataclass
class Fake:
    """A session made of a function from ``x`` to outputs; remembers the batch sizes it saw."""

    function: Callable[[np.ndarray], Mapping[str, Any]]
    shape: str = "x:float32[N,3]"

    def __post_init__(self) -> None:
        self.spec = ModelSpec((ValueSpec.parse(self.shape),), ())
        self.seen: list[int] = []

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, Any]:
        self.seen.append(len(feeds["x"]))
        results = self.function(feeds["x"])
        return {name: results[name] for name in outputs or results}


@dataclass
class Samples:
    """Data in memory."""

    x: np.ndarray
    y: np.ndarray | None
    classes: tuple[str, ...] | None = None
    name: str = "samples"

    @property
    def size(self) -> int:
        return len(self.x)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        whole = Batch({"x": self.x}, self.y)
        for start in range(0, len(self.x), batch_size):
            yield whole.slice(start, start + batch_size)

    def describe(self) -> dict[str, Any]:
        return {}


X = RNG.normal(size=(50, 3)).astype(np.float32)
BEST = X.argmax(1)
Y = np.where(np.arange(50) % 5 == 0, (BEST + 1) % 3, BEST)  # 40 of 50 are right


def test_logits_are_scored_and_normalised() -> None:
    result = evaluate(Fake(lambda x: {"z": x}), Samples(X, Y), ["accuracy", "log-loss", "auc"], 7)
    softmax = np.exp(X.astype(float)) / np.exp(X.astype(float)).sum(1, keepdims=True)
    assert result.metrics["accuracy"] == 0.8
    assert result.metrics["log-loss"] == pytest.approx(log_loss(Y, softmax))
    expected = roc_auc_score(Y, softmax, multi_class="ovr")
    assert result.metrics["auc"] == pytest.approx(expected, abs=1e-6)
    assert (result.samples, result.task, result.output) == (50, "classification", "z")


def test_probabilities_are_left_alone() -> None:
    softmax = np.exp(X.astype(float)) / np.exp(X.astype(float)).sum(1, keepdims=True)
    table = {row.tobytes(): p for row, p in zip(X, softmax, strict=True)}
    model = Fake(lambda x: {"p": np.stack([table[row.tobytes()] for row in x])})
    result = evaluate(model, Samples(X, Y), ["log-loss"])
    assert result.metrics["log-loss"] == pytest.approx(log_loss(Y, softmax))


def test_scores_between_0_and_1_that_do_not_add_up_are_logits() -> None:
    squashed = (X - X.min()) / (X.max() - X.min())
    result = evaluate(Fake(lambda x: {"z": x}), Samples(squashed, Y), ["log-loss"])
    exact = np.exp(squashed.astype(float))
    assert result.metrics["log-loss"] == pytest.approx(log_loss(Y, exact / exact.sum(1)[:, None]))


def test_quantized_probabilities_may_miss_one_by_a_step() -> None:
    exact = np.exp(X.astype(float)) / np.exp(X.astype(float)).sum(1, keepdims=True)
    steps = (np.floor(exact * 256) / 256).astype(np.float32)
    assert (steps.sum(1) < 1).any()
    result = evaluate(Fake(lambda x: {"p": x}), Samples(steps, Y), ["log-loss"])
    own = steps[np.arange(50), Y].astype(float)
    epsilon = np.finfo(np.float64).eps
    assert result.metrics["log-loss"] == pytest.approx(-np.log(np.maximum(own, epsilon)).mean())


def test_defaults_confusion_and_json() -> None:
    result = evaluate(Fake(lambda x: {"z": x}), Samples(X, Y, ("a", "b", "c", "never")))
    assert list(result.metrics) == ["accuracy", "precision", "recall", "f1"]
    assert result.classes == ("a", "b", "c", "never")
    assert result.confusion is not None
    assert result.confusion.sum() == 50
    assert result.confusion.trace() == 40
    for true in range(3):
        np.testing.assert_array_equal(
            result.confusion[true, :3], np.bincount(BEST[true == Y], minlength=3)
        )
    assert [score.name for score in result.per_class] == ["a", "b", "c"]
    assert sum(score.support for score in result.per_class) == 50
    json.dumps(result.to_json(), allow_nan=False)


def test_labels_and_scores_of_scikit_learn() -> None:
    # The label output decides, also where the columns are not counted from 0.
    def model(x: np.ndarray) -> dict[str, Any]:
        return {"label": x.argmax(1) + 10, "probabilities": np.exp(x) / np.exp(x).sum(1)[:, None]}

    assert evaluate(Fake(model), Samples(X, Y + 10)).metrics["accuracy"] == 0.8

    def zipped(x: np.ndarray) -> dict[str, Any]:
        rows = (np.exp(x) / np.exp(x).sum(1)[:, None]).tolist()
        maps = [dict(zip((10, 11, 12), row, strict=True)) for row in rows]
        return {"label": x.argmax(1) + 10, "scores": maps}

    result = evaluate(Fake(zipped), Samples(X, Y + 10), ["accuracy", "top-k:k=1"], 16)
    assert result.metrics == {"accuracy": 0.8, "top-k:k=1": 0.8}


def test_text_labels_are_looked_up() -> None:
    names = np.array(["ant", "bee", "cat"], object)
    model = Fake(lambda x: {"label": names[x.argmax(1)]})
    assert evaluate(model, Samples(X, Y, tuple(names))).metrics["accuracy"] == 0.8
    with pytest.raises(SmithError, match=r"predicts the class '(ant|bee|cat)'"):
        evaluate(model, Samples(X, Y))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 1, 1)])
@pytest.mark.parametrize("logits", [True, False])
def test_one_score_of_two_classes(shape: tuple[int, ...], logits: bool) -> None:
    labels = (X[:, 0] > 0).astype(np.int64)
    labels[:5] ^= 1

    def model(x: np.ndarray) -> dict[str, Any]:
        score = x[:, 0] if logits else 1 / (1 + np.exp(-x[:, 0]))
        return {"s": score.reshape(shape)}

    result = evaluate(Fake(model), Samples(X, labels), ["accuracy", "log-loss", "auc"])
    sigmoid = 1 / (1 + np.exp(-X[:, 0].astype(float)))
    assert result.metrics["accuracy"] == 0.9
    assert result.metrics["log-loss"] == pytest.approx(log_loss(labels, sigmoid), rel=1e-5)


def test_values() -> None:
    y = X.sum(1).astype(np.float64) + 1
    model = Fake(lambda x: {"v": x.sum(1, keepdims=True)})
    for labels in (y, y[:, None]):
        result = evaluate(model, Samples(X, labels))
        assert list(result.metrics) == ["rmse", "mae", "r2"]
        assert result.metrics["mae"] == pytest.approx(1, rel=1e-5)
        assert (result.confusion, result.classes, result.per_class) == (None, None, ())
    whole = Samples(X, np.arange(50))
    assert evaluate(Fake(lambda x: {"v": x[:, :1]}), whole).task == "regression"
    assert evaluate(Fake(lambda x: {"v": x[:, :1]}), Samples(X, Y), ["mse"]).task == "regression"


def test_onehot_labels_and_segmentation() -> None:
    onehot = np.eye(3, dtype=np.float32)[Y]
    assert evaluate(Fake(lambda x: {"z": x}), Samples(X, onehot)).metrics["accuracy"] == 0.8
    maps = RNG.normal(size=(6, 2, 4, 5)).astype(np.float32)
    truth = maps.argmax(1)
    truth[0, 0, 0] ^= 1
    for result in (
        evaluate(Fake(lambda x: {"m": x}, "x:float32[N,2,4,5]"), Samples(maps, truth), None, 4),
        evaluate(
            Fake(lambda x: {"m": x.transpose(0, 2, 3, 1)}, "x:float32[N,2,4,5]"),
            Samples(maps, truth),
        ),
    ):
        assert result.metrics["accuracy"] == pytest.approx(1 - 1 / 120)
        assert result.samples == 6


@pytest.mark.parametrize(("fixed", "runs"), [(1, [1] * 50), (8, [8] * 7)])
def test_fixed_batches(fixed: int, runs: list[int]) -> None:
    model = Fake(lambda x: {"z": x}, f"x:float32[{fixed},3]")
    result = evaluate(model, Samples(X, Y))
    assert result.metrics["accuracy"] == 0.8
    assert (result.samples, model.seen) == (50, runs)


def test_output_without_batch_axis() -> None:
    model = Fake(lambda x: {"z": x[0]}, "x:float32[1,3]")
    assert evaluate(model, Samples(X, Y)).metrics["accuracy"] == 0.8


def test_limit_and_batch_size() -> None:
    model = Fake(lambda x: {"z": x})
    result = evaluate(model, Samples(X, Y), None, 8, limit=20)
    assert result.samples == 20
    assert result.metrics["accuracy"] == np.mean(BEST[:20] == Y[:20])
    assert evaluate(Fake(lambda x: {"z": x}, "x:float32[8,3]"), Samples(X, Y), limit=3).samples == 3


def test_auxiliary_outputs_do_not_disturb() -> None:
    model = Fake(lambda x: {"z": x, "state": np.zeros((2, 9)), "count": np.int64(3)})
    assert evaluate(model, Samples(X, Y)).output == "z"
    model = Fake(lambda x: {"z": x, "features": np.zeros((len(x), 64), np.float32)})
    assert evaluate(model, Samples(X, Y, ("a", "b", "c"))).output == "z"
    assert evaluate(model, Samples(X, Y), output="z").output == "z"
    with pytest.raises(SmithError, match="several outputs could be scored: 'z', 'features'"):
        evaluate(model, Samples(X, Y))
    with pytest.raises(UsageError, match="no output 'zz'"):
        evaluate(model, Samples(X, Y), output="zz")


def test_nan_names_output_and_first_sample() -> None:
    broken = X.copy()
    broken[37, 1] = np.nan
    for size in (1, 10, 50):
        with pytest.raises(SmithError, match="output 'z' is NaN, first for sample 37"):
            evaluate(Fake(lambda x: {"z": x}), Samples(broken, Y), None, size)
    broken[37, 1] = -np.inf  # masks a class
    assert evaluate(Fake(lambda x: {"z": x}), Samples(broken, Y), ["log-loss"]).samples == 50
    with pytest.raises(SmithError, match="output 'v' is infinite, first for sample 37"):
        evaluate(Fake(lambda x: {"v": x[:, 1]}), Samples(broken, Y.astype(float)))


@pytest.mark.parametrize(
    ("y", "metrics", "message"),
    [
        (None, None, "has no labels"),
        (Y + 1, None, "label 3 is none of the model's 3 classes"),
        (np.array(["a"] * 50), None, "are text"),
        (np.full(50, np.nan), None, "not a number"),
        (Y[:, None].repeat(2, 1), None, "no output of the model fits the labels"),
        (Y, ["accuracy", "mse"], "score different things"),
        (Y.astype(float), ["accuracy"], "classes cannot be scored"),
        (Y, ["mse"], "no output of the model fits the labels"),
    ],
)
def test_labels_that_do_not_fit(y: Any, metrics: list[str] | None, message: str) -> None:
    with pytest.raises(SmithError, match=message) as caught:
        evaluate(Fake(lambda x: {"z": x}), Samples(X, y), metrics)
    assert caught.value.hint


def test_empty_data_and_late_third_class() -> None:
    with pytest.raises(SmithError, match="has no samples"):
        evaluate(Fake(lambda x: {"z": x}), Samples(X[:0], Y[:0]))
    labels = np.r_[np.zeros(20, int), np.full(30, 2)]
    with pytest.raises(SmithError, match="label 2 is neither 0 nor 1"):
        evaluate(Fake(lambda x: {"s": x[:, 0]}), Samples(X, labels), None, 10)


def test_many_classes_have_no_matrix() -> None:
    labels = np.arange(1200)
    model = Fake(lambda x: {"c": x[:, 0].astype(np.int64)}, "x:float32[N,1]")
    result = evaluate(model, Samples(labels[:, None].astype(np.float32), labels))
    assert result.metrics["accuracy"] == 1
    assert (result.confusion, result.classes) == (None, None)
