import numpy as np
import pytest
from sklearn.datasets import load_digits

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data import content_digest, open_data, refuse_shared, shared_samples
from onnxsmith.pipeline.data.base import Batch


def _all(text: str, batch_size: int = 100) -> Batch:
    from onnxsmith.pipeline.data.base import join

    return join(list(open_data(text).batches(batch_size)))


def test_splits_are_stratified_disjoint_and_complete() -> None:
    train, test = open_data("digits"), open_data("digits?split=test")
    assert (train.size, test.size) == (1352, 445)
    assert shared_samples(train, test) == 0
    whole = load_digits()
    for label, count in zip(*np.unique(whole.target, return_counts=True), strict=True):
        assert np.count_nonzero(_all("digits?split=test").labels == label) == count // 4


def test_values_are_raw_and_in_order() -> None:
    batch = _all("digits?split=all", 7)
    whole = load_digits()
    assert batch.inputs["x"].dtype == np.float32
    assert batch.labels is not None
    np.testing.assert_array_equal(batch.inputs["x"], whole.data)
    np.testing.assert_array_equal(batch.labels, whole.target)


def test_query_is_applied() -> None:
    raw = _all("digits").inputs["x"]
    scaled = _all("digits?scale=1/16&mean=0.5&std=0.25&layout=NCHW&limit=10").inputs["x"]
    assert scaled.shape == (10, 1, 8, 8)
    expected = ((raw[:10] / 16) - 0.5) / 0.25
    np.testing.assert_allclose(scaled.reshape(10, 64), expected, rtol=1e-6)
    assert _all("digits?layout=NHWC&limit=1").inputs["x"].shape == (1, 8, 8, 1)


def test_restartable_and_batch_sizes_agree() -> None:
    source = open_data("digits?limit=50")
    sizes = [len(batch) for batch in source.batches(20)]
    assert sizes == [20, 20, 10]
    assert [len(batch) for batch in source.batches(20)] == sizes
    np.testing.assert_array_equal(_all("digits", 1).inputs["x"], _all("digits", 999).inputs["x"])


def test_onehot() -> None:
    batch = _all("digits?onehot=10")
    labels = _all("digits").labels
    assert batch.labels is not None
    assert labels is not None
    np.testing.assert_array_equal(batch.labels.argmax(1), labels)
    np.testing.assert_array_equal(batch.labels.sum(1), 1)
    with pytest.raises(SmithError, match="outside of onehot=9"):
        _all("digits?onehot=9")


def test_shared_samples_do_not_depend_on_scale_or_layout() -> None:
    plain = open_data("digits?limit=20")
    other = open_data("digits?split=all&scale=1/16&layout=NCHW")
    assert shared_samples(plain, other) == 20
    assert content_digest(plain) == content_digest(open_data("digits?limit=20&scale=2"))
    assert content_digest(plain) != content_digest(open_data("digits?limit=21"))
    with pytest.raises(SmithError, match="20 samples are both in --data"):
        refuse_shared(plain, other)
    refuse_shared(open_data("digits"), open_data("digits?split=test"))


def test_description_is_json_without_paths() -> None:
    described = open_data("digits?scale=1/16&mean=1,2").describe()
    assert described == {
        "kind": "digits",
        "name": "digits",
        "size": 1352,
        "options": {"split": "train", "scale": 0.0625, "mean": [1.0, 2.0]},
    }
