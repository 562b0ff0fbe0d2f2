"""TensorFlow's audio front end in ONNX operators: ``AudioSpectrogram`` and ``Mfcc``.

The formulas are those of TensorFlow's kernels (tensorflow/core/kernels: spectrogram.cc,
mfcc_mel_filterbank.cc, mfcc_dct.cc), which follow HTK.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxsmith.errors import SmithError

# STFT came with this opset.
_OLDEST_OPSET = 17
_FLOOR = 1e-12  # of a mel band, before its logarithm

Array = np.ndarray[Any, Any]


def audio_spectrogram(context: Any, node: Any, name: str, arguments: list[Any]) -> None:
    """Write ``AudioSpectrogram``: samples [time, channels] to power [channels, frames, bins].

    Each frame is weighted with a periodic Hann window and padded with zeros to a power of two.

    Raises:
        SmithError: The opset has no STFT.
    """
    if context.opset < _OLDEST_OPSET:
        raise SmithError(
            f"the operator AudioSpectrogram needs opset {_OLDEST_OPSET}", "convert with --opset 18"
        )
    window, stride = node.get_attr_int("window_size"), node.get_attr_int("stride")
    length = 1 << (window - 1).bit_length()
    hann = np.zeros(length, np.float32)
    hann[:window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    make = _Maker(context, name)
    shapes, dtypes, squared = _take(context, node, "magnitude_squared")
    signal = make("Transpose", [node.input[0]], perm=[1, 0])
    # The window's zeros reach beyond the last frame's samples.
    pads = make.const("pads", np.array([0, 0, 0, length - window], np.int64))
    signal = make("Pad", [signal, pads])
    signal = make("Unsqueeze", [signal, make.const("last", np.array([2], np.int64))])
    spectrum = make(
        "STFT",
        [
            signal,
            make.const("stride", np.array(stride, np.int64)),
            make.const("hann", hann),
            make.const("length", np.array(length, np.int64)),
        ],
        onesided=1,
    )
    power = make("Mul", [spectrum, spectrum])
    axes = make.const("parts", np.array([3], np.int64))
    if squared:
        make("ReduceSum", [power, axes], (node, shapes, dtypes), keepdims=0)
        return
    power = make("ReduceSum", [power, axes], keepdims=0)
    make("Sqrt", [power], (node, shapes, dtypes))


def mfcc(context: Any, node: Any, name: str, arguments: list[Any]) -> None:
    """Write ``Mfcc``: power [channels, frames, bins] to cepstra [channels, frames, coefficients].

    Raises:
        SmithError: The sample rate or the number of bins is not fixed.
    """
    rate = node.inputs[1]
    bins = (context.get_shape(node.input[0]) or [-1])[-1]
    if not rate.is_const() or bins < 2:
        raise SmithError(
            "the operator Mfcc takes a sample rate that is not fixed",
            "make the sample rate a constant, or name Mfcc's output with --input",
        )
    bands, count = (
        node.get_attr_int("filterbank_channel_count"),
        node.get_attr_int("dct_coefficient_count"),
    )
    low, high = (node.get_attr_value(f"{end}_frequency_limit") for end in ("lower", "upper"))
    mel = mel_weights(bins, float(rate.get_tensor_value()), bands, low, high)
    make = _Maker(context, name)
    shapes, dtypes, _ = _take(context, node, None)
    magnitude = make("Sqrt", [node.input[0]])
    banded = make("MatMul", [magnitude, make.const("mel", mel)])
    banded = make("Max", [banded, make.const("floor", np.array(_FLOOR, np.float32))])
    logs = make("Log", [banded])
    make("MatMul", [logs, make.const("dct", dct_weights(bands, count))], (node, shapes, dtypes))


def mel_weights(bins: int, rate: float, bands: int, low: float, high: float) -> Array:
    """Return the triangular mel filters, float32 [bins, bands].

    Args:
        bins: Bins of the spectrum, from 0 Hz to half the sample rate.
        rate: Sample rate in Hz.
        bands: How many filters.
        low: Where the first one starts, in Hz.
        high: Where the last one ends, in Hz.
    """
    hertz = 0.5 * rate / (bins - 1) * np.arange(bins)
    mels, edges = _mel(hertz), np.linspace(_mel(low), _mel(high), bands + 2)
    first = int(1.5 + low / hertz[1])  # without the constant part, as HTK
    last = int(high / hertz[1])
    weights = np.zeros((bins, bands + 2))
    for index in range(first, min(last, bins - 1) + 1):
        # The bin lies between two centers and counts for both by its distance from them.
        upper = int(np.clip(np.searchsorted(edges, mels[index]), 1, bands + 1))
        share = (edges[upper] - mels[index]) / (edges[upper] - edges[upper - 1])
        weights[index, upper - 1] += share
        weights[index, upper] += 1.0 - share
    filters: Array = weights[:, 1:-1].astype(np.float32)
    return filters


def dct_weights(bands: int, count: int) -> Array:
    """Return the cosine transform of type II, float32 [bands, count]."""
    angle = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(count)
    weights: Array = np.sqrt(2.0 / bands) * np.cos(angle)
    return weights.astype(np.float32)


def _mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def _take(context: Any, node: Any, flag: str | None) -> tuple[Any, Any, bool]:
    """Remove the node and return its outputs' shapes and types, and one of its attributes."""
    found = node.output_shapes, node.output_dtypes, bool(flag and node.get_attr_value(flag))
    context.remove_node(node.name)
    return found


class _Maker:
    """Makes nodes with names below one name."""

    def __init__(self, context: Any, name: str) -> None:
        self.context = context
        self.name = name

    def __call__(
        self,
        kind: str,
        inputs: list[str],
        place: tuple[Any, Any, Any] | None = None,
        **attributes: int | list[int],
    ) -> str:
        if place is None:
            return str(self.context.make_node(kind, inputs, attr=attributes).output[0])
        node, shapes, dtypes = place
        made = self.context.make_node(
            kind,
            inputs,
            attr=attributes,
            outputs=node.output,
            name=self.name,
            shapes=shapes,
            dtypes=dtypes,
        )
        return str(made.output[0])

    def const(self, name: str, value: Array) -> str:
        return str(self.context.make_const(f"{self.name}__{name}", value).output[0])
