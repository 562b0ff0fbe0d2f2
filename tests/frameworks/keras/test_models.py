"""Live models of the backend tensorflow: numbers, names, open dimensions, and clean graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from onnxsmith.errors import SmithError
from onnxsmith.spec import ValueSpec

Any_ = Callable[..., Any]


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def shape(value: Any) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)


def random(*sizes: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal(sizes).astype(np.float32)


def trained(model: Any) -> Any:
    """Give normalization layers statistics that are not 0 and 1."""
    generator = np.random.default_rng(2)
    for weight in model.weights:
        if weight.path.rsplit("/", 1)[-1] in ("gamma", "moving_variance"):
            weight.assign(generator.uniform(0.5, 2, weight.shape))
        elif weight.path.rsplit("/", 1)[-1] in ("beta", "moving_mean", "bias"):
            weight.assign(generator.standard_normal(weight.shape))
    return model


def test_convolutions_keep_open_sizes_and_leave_no_normalization(
    open_source: Any_, parity: Any_
) -> None:
    model = trained(
        keras.Sequential([
            layers.Input((None, None, 3), name="image"),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(padding="same"),
            layers.SeparableConv2D(4, 3),
            layers.Conv2DTranspose(5, 2, strides=2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax", name="label"),
        ])
    )  # fmt: skip
    written, worst = parity(
        open_source(model), {"image": random(1, 21, 34, 3)}, {"image": random(5, 16, 16, 3)}
    )
    assert worst <= 1e-5
    assert shape(written.graph.input[0]) == ["batch", "height", "width", 3]
    assert [value.name for value in written.graph.output] == ["label"]
    found = operators(written)
    assert "BatchNormalization" not in found
    assert found.count("Transpose") <= 2
    assert found.count("Conv") == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.LSTM(5, return_sequences=True, go_backwards=True),
        lambda: layers.GRU(5, reset_after=True),
        lambda: layers.GRU(5, reset_after=False),
        lambda: layers.SimpleRNN(5, activation="relu"),
        lambda: layers.Bidirectional(layers.LSTM(5)),
        lambda: layers.Conv1D(5, 3, padding="causal", dilation_rate=2),
    ],
    ids=["lstm", "gru", "gru-before", "rnn", "bidirectional", "causal"],
)
def test_sequences_of_any_length(open_source: Any_, parity: Any_, make: Any_) -> None:
    steps = layers.Input((None, 6), name="steps")
    model = keras.Model(steps, make()(steps))
    _, worst = parity(open_source(model), {"steps": random(1, 3, 6)}, {"steps": random(4, 11, 6)})
    assert worst <= 1e-5


@pytest.mark.parametrize("time", [None, 5])
def test_a_layer_of_each_step_is_one_call(open_source: Any_, parity: Any_, time: Any) -> None:
    frames = layers.Input((time, 8, 8, 2), name="frames")
    inner = keras.Sequential([layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()])
    model = keras.Model(frames, layers.LSTM(4)(layers.TimeDistributed(inner)(frames)))
    before = layers.TimeDistributed.call
    source = open_source(model)
    assert layers.TimeDistributed.call is before
    written, worst = parity(source, {"frames": random(3, time or 4, 8, 8, 2)})
    assert worst <= 1e-5
    assert operators(written).count("Conv") == 1
    assert "Loop" not in operators(written)


def test_lstm_becomes_the_operator(open_source: Any_, parity: Any_) -> None:
    steps = layers.Input((None, 6), name="steps")
    written, _ = parity(open_source(keras.Model(steps, layers.LSTM(5)(steps))))
    assert operators(written).count("LSTM") == 1
    assert "Loop" not in operators(written)


def test_several_inputs_and_outputs_keep_their_names(open_source: Any_, parity: Any_) -> None:
    query, value = layers.Input((7, 16), name="query"), layers.Input((9, 16), name="value")
    attended = layers.MultiHeadAttention(2, 8)(query, value)
    normal = layers.LayerNormalization()(layers.Add()([attended, query]))
    gelu = layers.Dense(4, activation="gelu")(normal)
    model = keras.Model([query, value], {"y": gelu, "mean": layers.GlobalMaxPooling1D()(normal)})
    written, worst = parity(
        open_source(trained(model)), {"query": random(3, 7, 16), "value": random(3, 9, 16)}
    )
    assert worst <= 1e-5
    assert [value.name for value in written.graph.input] == ["query", "value"]
    assert [value.name for value in written.graph.output] == ["mean", "y"]


def test_a_model_by_subclass_needs_inputs(open_source: Any_, parity: Any_) -> None:
    class Twice(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x: Any) -> Any:
            return {"once": self.dense(x), "twice": 2 * self.dense(x)}

    with pytest.raises(SmithError) as caught:
        open_source(Twice())
    assert "--input" in caught.value.hint
    specs = (ValueSpec.parse("x:float32[batch,4]"),)
    _, worst = parity(open_source(Twice(), inputs=specs), {"x": random(5, 4)})
    assert worst <= 1e-5


def test_dropout_and_noise_are_off(open_source: Any_, parity: Any_) -> None:
    numbers = layers.Input((6,), name="x")
    model = keras.Model(numbers, layers.GaussianNoise(0.9)(layers.Dropout(0.5)(numbers)))
    written, worst = parity(open_source(model), {"x": random(4, 6)})
    assert worst == 0
    assert set(operators(written)) <= {"Identity"}


def test_the_step_of_an_embedding_takes_whole_numbers(open_source: Any_, parity: Any_) -> None:
    model = keras.Sequential([
        layers.Input((None,), dtype="int32", name="tokens"),
        layers.Embedding(50, 8),
        layers.GlobalAveragePooling1D(),
    ])  # fmt: skip
    written, worst = parity(open_source(model), {"tokens": np.arange(12, dtype=np.int32)[None]})
    assert worst <= 1e-6
    assert shape(written.graph.input[0]) == ["batch", "time"]
