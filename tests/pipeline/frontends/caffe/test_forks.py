"""Layers of common forks: Interp, Upsample, ROIPooling, LSTM and RNN."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError


def interpolate(x: Any, height: int, width: int) -> Any:
    """Bilinear with aligned corners, as caffe_cpu_interp2."""
    out = np.zeros((*x.shape[:2], height, width))
    ratios = [
        (old - 1) / (new - 1) if new > 1 else 0.0
        for old, new in zip(x.shape[2:], (height, width), strict=True)
    ]
    for i, j in itertools.product(range(height), range(width)):
        h, w = ratios[0] * i, ratios[1] * j
        h0, w0 = int(h), int(w)
        h1, w1 = min(h0 + 1, x.shape[2] - 1), min(w0 + 1, x.shape[3] - 1)
        a, b = h - h0, w - w0
        top = (1 - b) * x[:, :, h0, w0] + b * x[:, :, h0, w1]
        bottom = (1 - b) * x[:, :, h1, w0] + b * x[:, :, h1, w1]
        out[:, :, i, j] = (1 - a) * top + a * bottom
    return out


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ("height: 9 width: 11", (9, 11)),
        ("zoom_factor: 2", (7, 11)),
        ("shrink_factor: 2", (2, 3)),
        ("shrink_factor: 2 zoom_factor: 3", (4, 7)),
        ("height: 3 width: 2", (3, 2)),
    ],
)
@pytest.mark.parametrize("batch", ["batch", "2"])
def test_interp(caffe: Any, rng: Any, settings: str, size: Any, batch: str) -> None:
    x = rng.normal(size=(2, 3, 4, 6))
    found = caffe.layer(
        "Interp", f"interp_param {{ {settings} }}", [], x, inputs=[f"x0:float32[{batch},3,4,6]"]
    )
    np.testing.assert_allclose(found, interpolate(x, *size), rtol=1e-4, atol=1e-5)


def test_interp_reaches_any_size_with_an_open_batch(caffe: Any, rng: Any) -> None:
    """The factors that stand for the sizes must not be rounded to another size."""
    for old, new in [(7, 33), (65, 513), (3, 1000), (41, 321), (10, 3), (49, 7)]:
        x = rng.normal(size=(1, 1, old, 2))
        found = caffe.layer("Interp", f"interp_param {{ height: {new} width: 3 }}", [], x)
        assert found.shape == (1, 1, new, 3)
        np.testing.assert_allclose(found, interpolate(x, new, 3), rtol=1e-3, atol=1e-4)


def test_interp_crops_and_follows_another_blob(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(1, 2, 6, 7))
    settings = "interp_param { height: 8 width: 8 pad_beg: -1 pad_end: -1 }"
    found = caffe.layer("Interp", settings, [], x)
    np.testing.assert_allclose(found, interpolate(x[:, :, 1:-1, 1:-1], 8, 8), rtol=1e-4, atol=1e-5)
    like = rng.normal(size=(1, 5, 3, 9))
    found = caffe.layer("Interp", "", [], x, like)
    np.testing.assert_allclose(found, interpolate(x, 3, 9), rtol=1e-4, atol=1e-5)


def test_upsample_by_the_nearest_neighbor(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(2, 3, 4, 5))
    found = caffe.layer("Upsample", "upsample_param { scale: 3 }", [], x)
    np.testing.assert_array_equal(found, x.repeat(3, 2).repeat(3, 3).astype(np.float32))


UNPOOL = """input: "x" input_shape { dim: 1 dim: 2 dim: 6 dim: 8 }
layer { name: "p" type: "Pooling" bottom: "x" top: "y" top: "mask"
        pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "r" type: "ReLU" bottom: "y" top: "y" }
layer { name: "u" type: "Upsample" bottom: "y" bottom: "mask" top: "z" upsample_param { %s } }"""


def test_upsample_by_the_mask_of_a_pooling(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(3, 2, 6, 8)) + 5
    found = caffe.run(UNPOOL % "scale: 2", None, {"x": x})["z"]
    blocks = x.reshape(3, 2, 3, 2, 4, 2)
    kept = np.where(blocks == blocks.max((3, 5), keepdims=True), blocks, 0).reshape(x.shape)
    np.testing.assert_allclose(found, kept, rtol=1e-6)


def test_upsample_to_another_size_is_refused(caffe: Any) -> None:
    with pytest.raises(SmithError, match="makes 9 x 12 of what was pooled from 6 x 8"):
        caffe.run(UNPOOL % "scale: 3", None, {})


def test_the_mask_of_a_pooling_alone(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(2, 2, 6, 8))
    text = UNPOOL.split('layer { name: "r"')[0]
    found = caffe.run(text, None, {"x": x})
    blocks = x.reshape(2, 2, 3, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 2, 3, 4, 4)
    best = blocks.argmax(-1)
    rows = np.arange(3)[:, None] * 2 + best // 2
    columns = np.arange(4) * 2 + best % 2
    np.testing.assert_array_equal(found["mask"], rows * 8 + columns)
    assert found["mask"].dtype == np.float32


def test_roi_pooling(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(2, 3, 8, 10))
    rois = np.array([[0, 0, 0, 9, 7], [1, 2, 1, 7, 6], [0, 4, 4, 4, 4]], np.float64)
    settings = "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 1 }"
    found = caffe.layer("ROIPooling", settings, [], x, rois)
    expected = np.zeros((3, 3, 2, 3))
    for r, (batch, x1, y1, x2, y2) in enumerate(rois.astype(int)):
        height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for i, j in itertools.product(range(2), range(3)):
            h0, h1 = int(np.floor(i * height / 2)) + y1, int(np.ceil((i + 1) * height / 2)) + y1
            w0, w1 = int(np.floor(j * width / 3)) + x1, int(np.ceil((j + 1) * width / 3)) + x1
            expected[r, :, i, j] = x[batch, :, h0:h1, w0:w1].max((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def lstm(x: Any, cont: Any, blobs: Any, static: Any = None, state: Any = None) -> Any:
    """Run as lstm_layer.cpp and lstm_unit_layer.cpp do."""
    w, b, *rest = blobs
    recurrent = rest[-1]
    units = recurrent.shape[1]
    h, c = state if state else (np.zeros((x.shape[1], units)),) * 2
    out = []
    for step, go in zip(x, cont, strict=True):
        go = go[:, None]
        gates = step.reshape(len(step), -1) @ w.T + b + (go * h) @ recurrent.T
        if static is not None:
            gates = gates + static @ rest[0].T
        i, f, o, g = np.split(gates, 4, 1)
        c = go * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out), h, c


RECURRENT = "recurrent_param {{ num_output: 3 {} }}"


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("shape", [(5, 2, 4), (5, 1, 2, 2)])
def test_lstm_begins_anew_where_it_is_told(caffe: Any, rng: Any, static: bool, shape: Any) -> None:
    x = rng.normal(size=shape)
    samples = shape[1]
    cont = rng.integers(0, 2, (5, samples)).astype(float)
    fixed = [rng.normal(size=(samples, 6))] if static else []
    blobs = [rng.normal(size=s) for s in [(12, 4), (12,), *([(12, 6)] if static else []), (12, 3)]]
    found = caffe.layer("LSTM", RECURRENT.format(""), blobs, x, cont, *fixed)
    expected, _, _ = lstm(x, cont, blobs, *fixed)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_lstm_with_its_state_in_and_out(caffe: Any, rng: Any) -> None:
    x, cont = rng.normal(size=(4, 2, 4)), np.ones((4, 2))
    h, c = rng.normal(size=(2, 1, 2, 3))
    blobs = [rng.normal(size=s) for s in [(12, 4), (12,), (12, 3)]]
    text = """input: "x" input_shape { dim: 4 dim: 2 dim: 4 }
    input: "cont" input_shape { dim: 4 dim: 2 }
    input: "h0" input_shape { dim: 1 dim: 2 dim: 3 }
    input: "c0" input_shape { dim: 1 dim: 2 dim: 3 }
    layer { name: "l" type: "LSTM" bottom: "x" bottom: "cont" bottom: "h0" bottom: "c0"
            top: "y" top: "h" top: "c" %s }"""
    text %= RECURRENT.format("expose_hidden: true")
    found = caffe.run(text, {"l": blobs}, {"x": x, "cont": cont, "h0": h, "c0": c})
    expected = lstm(x, cont, blobs, None, (h[0], c[0]))
    np.testing.assert_allclose(found["y"], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["h"][0], expected[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["c"][0], expected[2], rtol=1e-4, atol=1e-5)


def test_an_uninterrupted_lstm_is_onnx_own(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(5, 2, 4))
    blobs = [rng.normal(size=s) for s in [(12, 4), (12,), (12, 3)]]
    text = """input: "x" input_shape { dim: 5 dim: 2 dim: 4 }
    layer { name: "cont" type: "DummyData" top: "cont"
            dummy_data_param { shape { dim: 5 dim: 2 } data_filler { value: 1 } } }
    layer { name: "l" type: "LSTM" bottom: "x" bottom: "cont" top: "y" %s }"""
    text %= RECURRENT.format("")
    found = caffe.run(text, {"l": blobs}, {"x": x})
    assert "LSTM" in [node.op_type for node in caffe.artifact(text, {"l": blobs}).model.graph]
    np.testing.assert_allclose(found["y"], lstm(x, np.ones((5, 2)), blobs)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_the_number_of_sequences_stays_open(caffe: Any, rng: Any, samples: int) -> None:
    blobs = [rng.normal(size=s) for s in [(12, 4), (12,), (12, 3)]]
    text = """input: "x" input_shape { dim: 4 dim: 3 dim: 4 }
    input: "cont" input_shape { dim: 4 dim: 3 }
    layer { name: "l" type: "LSTM" bottom: "x" bottom: "cont" top: "y" %s }"""
    x, cont = rng.normal(size=(4, samples, 4)), np.ones((4, samples))
    artifact = caffe.artifact(text % RECURRENT.format(""), {"l": blobs})
    assert [str(v) for v in artifact.spec.outputs] == ["y: float32[4,batch,3]"]
    found = caffe.run(text % RECURRENT.format(""), {"l": blobs}, {"x": x, "cont": cont})["y"]
    np.testing.assert_allclose(found, lstm(x, cont, blobs)[0], rtol=1e-4, atol=1e-5)


def test_rnn(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(5, 2, 4))
    cont = rng.integers(0, 2, (5, 2)).astype(float)
    w, b, recurrent, out, out_b = blobs = [
        rng.normal(size=s) for s in [(3, 4), (3,), (3, 3), (3, 3), (3,)]
    ]
    found = caffe.layer("RNN", RECURRENT.format(""), blobs, x, cont)
    h, expected = np.zeros((2, 3)), []
    for step, go in zip(x, cont, strict=True):
        h = np.tanh(step @ w.T + b + (go[:, None] * h) @ recurrent.T)
        expected.append(np.tanh(h @ out.T + out_b))
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings", "shapes", "message"),
    [
        ("Interp", "", [(1, 1, 4, 4)], "no size to reach"),
        ("Interp", "interp_param { pad_beg: 3 zoom_factor: 2 }", [(1, 1, 4, 4)], "cannot lose"),
        ("Upsample", "upsample_param { scale: 0 }", [(1, 1, 4, 4)], "its scale is 0"),
        ("Upsample", "", [(1, 1, 4, 4), (1, 1, 4, 4)], "not the mask of a Pooling"),
        ("LSTM", RECURRENT.format(""), [(4, 2), (4, 2)], "give it T x N"),
        ("ROIPooling", "", [(1, 1, 4, 4), (1, 5)], "no pooled_h or pooled_w"),
    ],
)
def test_refusals(
    caffe: Any, rng: Any, kind: str, settings: str, shapes: Any, message: str
) -> None:
    with pytest.raises(SmithError, match=f"'it' \\({kind}\\)"):
        caffe.layer(kind, settings, [], *[rng.normal(size=shape) for shape in shapes])
    with pytest.raises(SmithError) as caught:
        caffe.layer(kind, settings, [], *[rng.normal(size=shape) for shape in shapes])
    assert message in f"{caught.value.message} {caught.value.hint}"
