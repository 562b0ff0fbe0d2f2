"""The audio front end against TensorFlow's kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tests.frameworks.tensorflow.conftest import signature

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tensorflow.audio import dct_weights, mel_weights
from onnxsmith.pipeline.frontends.tensorflow.convert import convert_frozen
from onnxsmith.pipeline.frontends.tensorflow.freeze import freeze

Parity = Callable[..., Any]
Open = Callable[..., Any]


def tones(channels: int, rate: int = 16000) -> np.ndarray[Any, Any]:
    """Return half a second of two tones in noise."""
    time = np.arange(rate // 2)[:, None] / rate
    generator = np.random.default_rng(0)
    clean = np.sin(2 * np.pi * 440 * time) + 0.3 * np.sin(2 * np.pi * 3100 * time)
    noise = generator.standard_normal((len(time), channels)) * 0.01
    return (clean * np.linspace(0.1, 1, channels) + noise).astype(np.float32)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize(("window", "stride", "channels"), [(640, 320, 1), (256, 100, 2)])
def test_spectrograms(
    open_source: Open, parity: Parity, window: int, stride: int, channels: int, squared: bool
) -> None:
    def call(audio: Any) -> Any:
        return tf.raw_ops.AudioSpectrogram(
            input=audio, window_size=window, stride=stride, magnitude_squared=squared
        )

    spec = tf.TensorSpec((8000, channels), tf.float32, name="audio")
    source = open_source(tf.function(call, input_signature=[spec]))
    _, worst, _ = parity(source, {"audio": tones(channels)})
    assert worst < 2e-6


@pytest.mark.parametrize(
    ("rate", "low", "high", "bands", "count"),
    [(16000, 20.0, 4000.0, 40, 10), (44100, 300.0, 20000.0, 64, 64), (8000, 0.0, 4000.0, 20, 13)],
)
def test_cepstra(
    open_source: Open,
    parity: Parity,
    rate: int,
    low: float,
    high: float,
    bands: int,
    count: int,
) -> None:
    def call(spectrogram: Any) -> Any:
        return tf.raw_ops.Mfcc(
            spectrogram=spectrogram,
            sample_rate=tf.constant(rate),
            lower_frequency_limit=low,
            upper_frequency_limit=high,
            filterbank_channel_count=bands,
            dct_coefficient_count=count,
        )

    spec = tf.TensorSpec((2, 7, 513), tf.float32, name="spectrogram")
    function = tf.function(call, input_signature=[spec]).get_concrete_function()
    powers = np.random.default_rng(0).uniform(0, 5, (2, 7, 513)).astype(np.float32) ** 4
    powers[0, 3] = 0.0  # silence: the floor below the logarithm
    source = open_source(function)
    source.examples = {"spectrogram": powers}  # normal values have no root
    _, worst, _ = parity(source)
    assert worst < 2e-6


def test_filters_share_each_bin_between_two_bands() -> None:
    weights = mel_weights(257, 16000.0, 20, 100.0, 6000.0)
    inner = weights[10:150]
    np.testing.assert_allclose(inner.sum(1), 1.0, atol=1e-6)
    assert (np.count_nonzero(inner, 1) <= 2).all()
    assert not weights[:3].any()
    assert not weights[200:].any()


def test_the_cosine_transform_is_orthogonal() -> None:
    weights = dct_weights(32, 32)
    product = weights.T @ weights
    np.testing.assert_allclose(product[1:, 1:], np.eye(31), atol=1e-5)
    np.testing.assert_allclose(product[0, 0], 2.0, atol=1e-5)  # TensorFlow does not halve it


def test_an_old_opset_has_no_spectrogram() -> None:
    spec = tf.TensorSpec((8000, 1), tf.float32, name="audio")
    function = tf.function(
        lambda audio: tf.raw_ops.AudioSpectrogram(input=audio, window_size=512, stride=256),
        input_signature=[spec],
    )
    with pytest.raises(SmithError, match="AudioSpectrogram needs opset 17"):
        convert_frozen(freeze(function.get_concrete_function()), 16)


def test_a_sample_rate_that_is_not_fixed_is_refused() -> None:
    function = tf.function(
        lambda s, rate: tf.raw_ops.Mfcc(spectrogram=s, sample_rate=rate),
        input_signature=[tf.TensorSpec((1, 7, 257)), tf.TensorSpec((), tf.int32)],
    )
    with pytest.raises(SmithError, match="a sample rate that is not fixed"):
        convert_frozen(freeze(function.get_concrete_function()), 18)


def test_graphs_that_decode_wav_files_begin_at_the_samples(
    tmp_path: Path, open_source: Open, parity: Parity
) -> None:
    with tf.Graph().as_default() as graph:
        wav = tf.compat.v1.placeholder(tf.string, (), "wav_data")
        audio, rate = tf.audio.decode_wav(wav, 1, 8000, name="decoded")
        spectrogram = tf.raw_ops.AudioSpectrogram(
            input=audio, window_size=480, stride=160, magnitude_squared=True
        )
        tf.raw_ops.Mfcc(spectrogram=spectrogram, sample_rate=rate, name="cepstra")
    path = tmp_path / "front.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    model, worst, export = parity(open_source(path), {"decoded": tones(1)})
    assert signature(model)["decoded"] == [8000, 1]
    assert worst < 1e-5
    assert "the model starts at the samples 'decoded'" in export.warnings[0]
    assert "16000 Hz" in export.warnings[0]
