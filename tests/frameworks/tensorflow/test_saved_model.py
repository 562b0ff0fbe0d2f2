"""SavedModels: signatures, tables, text, those of TensorFlow 1, and damaged ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tests.frameworks.tensorflow.conftest import signature

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.spec import ValueSpec

Open = Callable[..., Any]
Parity = Callable[..., Any]


class Two(tf.Module):
    """Two signatures and a method."""

    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(np.random.default_rng(0).standard_normal((6, 3), np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32, name="features")])
    def encode(self, features: Any) -> dict[str, Any]:
        return {"code": tf.tanh(features @ self.w), "norm": tf.reduce_sum(features, 1)}

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, 6), tf.float32, name="left"),
            tf.TensorSpec((None, None, 6), tf.float32, name="right"),
        ]
    )
    def attend(self, left: Any, right: Any) -> dict[str, Any]:
        return {"scores": tf.nn.softmax(tf.matmul(left, right, transpose_b=True))}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    model = Two()
    tf.saved_model.save(
        model, str(folder), signatures={"encode": model.encode, "attend": model.attend}
    )
    return folder


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("usual")
    model = Two()
    signatures = {"serving_default": model.encode, "attend": model.attend}
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return folder


def test_the_usual_signature_is_taken(usual: Path, open_source: Open, parity: Parity) -> None:
    model, worst, export = parity(open_source(usual))
    assert signature(model) == {"features": ["batch", 6], "code": ["batch", 3], "norm": ["batch"]}
    assert worst < 1e-6
    assert export.details["route"] == "SavedModel, serving_default"
    assert set(export.details["versions"]) == {"tensorflow", "tf2onnx"}


def test_the_file_in_the_folder_names_it_too(usual: Path, open_source: Open) -> None:
    assert open_source(usual / "saved_model.pb").outputs == ("code", "norm")


def test_a_part_chooses_and_lengths_stay_apart(
    two: Path, open_source: Open, parity: Parity
) -> None:
    model, worst, _ = parity(open_source(two, part="attend"))
    assert worst < 1e-6
    assert signature(model) == {
        "left": ["batch", "left_time", 6],
        "right": ["batch", "right_time", 6],
        "scores": ["batch", "left_time", "right_time"],
    }


def test_a_shape_can_be_asked_for(two: Path, open_source: Open, parity: Parity) -> None:
    inputs = (
        ValueSpec("left", "float32", ("n", 4, 6)),
        ValueSpec("right", "float32", ("n", "keys", 6)),
    )
    model, worst, _ = parity(open_source(two, part="attend", inputs=inputs))
    assert worst < 1e-6
    assert signature(model) == {
        "left": ["n", 4, 6],
        "right": ["n", "keys", 6],
        "scores": ["n", 4, "keys"],
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ValueSpec("features", "float64", (2, 6)), "is of type float32, not float64"),
        (ValueSpec("features", "float32", (2, 7)), r"has the shape \(None, 6\), which --input"),
        (ValueSpec("other", "float32", (2, 6)), "the model has no input 'other'"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    two: Path, open_source: Open, spec: ValueSpec, message: str
) -> None:
    with pytest.raises(SmithError, match=message):
        open_source(two, part="encode", inputs=(spec,))


def test_several_signatures_ask_for_a_part(two: Path, open_source: Open) -> None:
    with pytest.raises(UsageError, match="holds several signatures") as caught:
        open_source(two)
    assert caught.value.hint == "choose one with --part: encode, attend"
    with pytest.raises(UsageError, match="has no part 'decode'") as caught:
        open_source(two, part="decode")
    assert "attend" in caught.value.hint


def test_a_model_without_signature_gives_its_call(
    tmp_path: Path, open_source: Open, parity: Parity
) -> None:
    model = tf.Module()
    spec = tf.TensorSpec((None, 4), tf.float32, name="x")
    model.__call__ = tf.function(lambda x: x + 1.0, input_signature=[spec])
    tf.saved_model.save(model, str(tmp_path / "plain"))
    found, worst, _ = parity(open_source(tmp_path / "plain"))
    assert worst == 0.0
    assert signature(found) == {"x": ["batch", 4], "output_0": ["batch", 4]}


class Words(tf.Module):
    """A table from words to numbers, read from a file beside the model."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        source = tf.lookup.TextFileInitializer(
            str(path), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )  # fmt: skip
        self.table = tf.lookup.StaticHashTable(source, default_value=-1)
        self.vectors = tf.Variable(np.arange(12, dtype=np.float32).reshape(4, 3))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="words")])
    def __call__(self, words: Any) -> dict[str, Any]:
        numbers = self.table.lookup(words)
        return {"numbers": numbers, "vectors": tf.gather(self.vectors, numbers + 1)}


def test_tables_of_words(tmp_path: Path, open_source: Open, parity: Parity) -> None:
    words = tmp_path / "words.txt"
    words.write_text("red\ngreen\nblue\n")
    model = Words(words)
    tf.saved_model.save(model, str(tmp_path / "words"), signatures=model.__call__)
    words.unlink()  # it travels with the model
    feeds = {"words": np.array(["blue", "red", "unheard"], object)}
    found, worst, export = parity(open_source(tmp_path / "words"), feeds)
    assert worst == 0.0
    assert "CategoryMapper" in {node.op_type for node in found.graph.node}
    assert set(export.examples["words"].tolist()) <= {"red", "green", "blue", "unseen"}
    assert signature(found)["vectors"] == ["batch", 3]


@pytest.mark.parametrize("resource", [True, False])
def test_models_of_tensorflow_1(
    tmp_path: Path, open_source: Open, parity: Parity, resource: bool
) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 4), "x_place")
        weights = np.random.default_rng(0).standard_normal((4, 3), np.float32)
        w = v1.get_variable("w", initializer=weights, use_resource=resource)
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant([0, 1, 2], tf.int64), tf.constant(["zero", "one", "two"])
            ),
            "?",
        )
        logits = tf.matmul(x, w)
        label = table.lookup(tf.argmax(logits, 1))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(
            session,
            str(tmp_path / "v1"),
            {"x": x},
            {"logits": logits, "label": label},
            legacy_init_op=v1.tables_initializer(),
        )
    feeds = {"x": np.eye(4, dtype=np.float32)}
    model, worst, _ = parity(open_source(tmp_path / "v1"), feeds)
    assert worst < 1e-6
    assert signature(model) == {"x": ["batch", 4], "label": ["batch"], "logits": ["batch", 3]}


def test_damaged_folders_are_refused(usual: Path, tmp_path: Path, open_source: Open) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(usual, copy)
    (copy / "saved_model.pb").write_bytes((usual / "saved_model.pb").read_bytes()[:500])
    with pytest.raises(SmithError, match="cannot be loaded as a SavedModel"):
        open_source(copy)
    shutil.copyfile(usual / "saved_model.pb", copy / "saved_model.pb")
    (copy / "variables" / "variables.index").write_bytes(b"\x00" * 100)
    with pytest.raises(SmithError, match="cannot be loaded as a SavedModel"):
        open_source(copy)
