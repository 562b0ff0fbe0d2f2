"""Every metric against scikit-learn, in one batch and in many."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.evaluation import METRICS, Predictions, make_metric
from onnxsmith.pipeline.evaluation.confusion import ConfusionCounts

CLASSES = st.lists(st.tuples(st.integers(-2, 4), st.integers(-2, 4)), min_size=1, max_size=40)
AVERAGED = {
    "precision": reference.precision_score,
    "recall": reference.recall_score,
    "f1": reference.f1_score,
}


def accumulate(name: str, batches: list[Predictions]) -> float:
    metric = make_metric(name)
    for batch in batches:
        metric.update(batch)
    return metric.result()


def classified(pairs: list[tuple[int, int]], cut: int) -> list[Predictions]:
    true, said = np.asarray(pairs, np.int64).T
    parts = [(true[:cut], said[:cut]), (true[cut:], said[cut:])]
    return [Predictions(t, classes=p) for t, p in parts if len(t)]


@given(CLASSES, st.integers(0, 40))
def test_averages_over_classes(pairs: list[tuple[int, int]], cut: int) -> None:
    true, said = np.asarray(pairs).T
    batches = classified(pairs, cut)
    assert accumulate("accuracy", batches) == pytest.approx(reference.accuracy_score(true, said))
    for name, score in AVERAGED.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a single class makes scikit-learn warn
            macro = score(true, said, average="macro", zero_division=0)
            weighted = score(true, said, average="weighted", zero_division=0)
        assert accumulate(name, batches) == pytest.approx(macro)
        assert accumulate(f"{name}-weighted", batches) == pytest.approx(weighted)


@given(CLASSES, st.integers(0, 40))
def test_confusion_matrix(pairs: list[tuple[int, int]], cut: int) -> None:
    counts = ConfusionCounts()
    for batch in classified(pairs, cut):
        counts.update(*batch.classified("confusion"))
    true, said = np.asarray(pairs).T
    labels = counts.labels()
    assert labels == sorted({*true, *said})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single class makes scikit-learn warn
        expected = reference.confusion_matrix(true, said, labels=labels)
    np.testing.assert_array_equal(counts.matrix(labels), expected)
    assert counts.total == len(pairs)


def probabilities(seed: int, samples: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet(np.ones(classes), samples)
    return scores, np.concatenate(
        [np.arange(classes), generator.integers(0, classes, samples - classes)]
    )


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(2, 6), st.integers(1, 29))
def test_metrics_of_scores(seed: int, classes: int, cut: int) -> None:
    scores, true = probabilities(seed, 30, classes)
    batches = [
        Predictions(true[part], classes=scores[part].argmax(1), probabilities=scores[part])
        for part in (slice(0, cut), slice(cut, None))
    ]
    labels = np.arange(classes)
    expected = reference.log_loss(true, scores, labels=labels)
    assert accumulate("log-loss", batches) == pytest.approx(expected, rel=1e-12)
    if classes == 2:
        area = reference.roc_auc_score(true, scores[:, 1])
    else:
        area = reference.roc_auc_score(true, scores, multi_class="ovr", average="macro")
    assert accumulate("auc", batches) == pytest.approx(area, abs=1e-6)
    for k in range(1, classes):
        if classes > 2:
            best = reference.top_k_accuracy_score(true, scores, k=k, labels=labels)
            assert accumulate(f"top-k:k={k}", batches) == pytest.approx(best)
    assert accumulate(f"top-k:k={classes}", batches) == 1


def test_log_loss_of_certain_errors_is_finite() -> None:
    batch = Predictions(np.array([0, 1]), probabilities=np.array([[0.0, 1.0], [0.0, 1.0]]))
    expected = reference.log_loss([0, 1], [[0.0, 1.0], [0.0, 1.0]])
    assert accumulate("log-loss", [batch]) == pytest.approx(expected)


def test_equal_scores_do_not_all_count_as_best() -> None:
    batch = Predictions(np.array([0, 1, 2]), probabilities=np.full((3, 3), 1 / 3))
    assert accumulate("top-k:k=1", [batch]) == pytest.approx(1 / 3)
    assert accumulate("top-k:k=2", [batch]) == pytest.approx(2 / 3)


@settings(max_examples=50)
@given(
    st.integers(0, 9999),
    st.integers(2, 30),
    st.integers(1, 29),
    st.integers(1, 3),
    st.sampled_from([0.0, 1e6]),
)
def test_metrics_of_values(seed: int, samples: int, cut: int, width: int, shift: float) -> None:
    generator = np.random.default_rng(seed)
    true = generator.normal(size=(samples, width)) + shift
    said = true + generator.normal(size=(samples, width))
    batches = [
        Predictions(true[part], values=said[part])
        for part in (slice(0, cut), slice(cut, None))
        if len(true[part])
    ]
    mse = reference.mean_squared_error(true, said)
    assert accumulate("mse", batches) == pytest.approx(mse)
    assert accumulate("rmse", batches) == pytest.approx(math.sqrt(mse))
    assert accumulate("mae", batches) == pytest.approx(reference.mean_absolute_error(true, said))
    assert accumulate("r2", batches) == pytest.approx(reference.r2_score(true, said), rel=1e-6)
    snr = 10 * math.log10(np.square(true).sum() / np.square(true - said).sum())
    assert accumulate("snr", batches) == pytest.approx(snr)


def test_limits_of_values() -> None:
    same = [Predictions(np.full((3, 1), 2.0), values=np.full((3, 1), 2.0))]
    off = [Predictions(np.full((3, 1), 2.0), values=np.full((3, 1), 3.0))]
    assert (accumulate("r2", same), accumulate("r2", off)) == (1, 0)
    assert accumulate("snr", same) == math.inf
    zero = [Predictions(np.zeros((3, 1)), values=np.ones((3, 1)))]
    assert accumulate("snr", zero) == -math.inf


def test_auc_needs_every_class() -> None:
    batch = Predictions(np.zeros(3, np.int64), probabilities=np.full((3, 2), 0.5))
    with pytest.raises(SmithError, match="no sample of class 1"):
        accumulate("auc", [batch])


def test_columns_may_be_other_classes() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2]])
    batch = Predictions(np.array([3, 7]), probabilities=scores, columns=np.array([7, 3]))
    assert accumulate("top-k:k=1", [batch]) == 1
    with pytest.raises(SmithError, match="label 5 is none of the 2 classes"):
        accumulate("auc", [Predictions(np.array([5]), probabilities=scores[:1])])


def test_table_and_options() -> None:
    for name in METRICS.rows:
        metric = make_metric(name)
        assert metric.task in {"classification", "regression"}
        assert not metric.is_rate or metric.higher_is_better
    for text, message in [
        ("acuracy", "unknown metric 'acuracy'"),
        ("top-k:n=3", "no option 'n'"),
        ("accuracy:k=3", "no option 'k'"),
        ("top-k:k=x", "cannot read 'k=x'"),
        ("top-k:k=0", "k=0"),
    ]:
        with pytest.raises(UsageError, match=message):
            make_metric(text)


def test_wrong_kinds_are_refused() -> None:
    classes = Predictions(np.array([1]), classes=np.array([1]))
    values = Predictions(np.ones((1, 1)), values=np.ones((1, 1)))
    for name, batch in [("auc", classes), ("mse", classes), ("f1", values), ("top-k", values)]:
        with pytest.raises(SmithError, match="needs"):
            accumulate(name, [batch])
