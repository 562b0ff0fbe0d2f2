"""Two models side by side: which layer is to blame, in how much memory."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.comparison import noise
from onnxsmith.pipeline.comparison.compare import CompareRequest, compare_models, sample_stream
from onnxsmith.pipeline.comparison.correspondence import correspondence
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize

RNG = np.random.default_rng(3)
TEXT = """<ir_version: 10, opset_import: ["": 20]>
net (float[N, 16] x) => (float[N, 8] y) {
  a = MatMul(x, wa)
  b = Relu(a)
  c = MatMul(b, wb)
  d = Relu(c)
  y = MatMul(d, wc)
}"""


def net(text: str = TEXT, spoiled: str = "", renamed: bool = False) -> Artifact:
    generator = np.random.default_rng(1)
    proto = onnx.parser.parse_model(text)
    for name, shape in (("wa", (16, 32)), ("wb", (32, 32)), ("wc", (32, 8))):
        weight = generator.standard_normal(shape).astype(np.float32)
        if name == spoiled:
            weight = weight + 0.3 * generator.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weight, name))
    if renamed:
        for node in proto.graph.node:
            node.input[:] = [f"t_{n}" if n in "abcd" else n for n in node.input]
            node.output[:] = [f"t_{n}" if n in "abcd" else n for n in node.output]
    return Artifact.from_proto(proto)


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize(("spoiled", "tensor"), [("wa", "a"), ("wb", "c"), ("wc", "y")])
def test_the_layer_that_was_spoiled_is_found(spoiled, tensor, renamed):
    other = net(spoiled=spoiled, renamed=renamed)
    result = compare_models(net(), other, CompareRequest(layers=True))
    assert [layer.tensor for layer in result.layers] == ["a", "b", "c", "d", "y"]
    assert result.unmatched == 0
    # Later layers may make the noise they are given larger; here is where it comes from.
    (worst,) = [found for found in result.ranked() if found.before_db == np.inf]
    assert worst.tensor == tensor
    # A weight of variance 1 with noise of variance 0.09: a ratio of 0.09, 10.5 dB.
    assert worst.snr_db == pytest.approx(10.5, abs=3.0)
    assert worst.added == pytest.approx(10 ** (-worst.snr_db / 10))
    hows = {layer.tensor: layer.how for layer in result.layers}
    assert hows["c"] == ("structure" if renamed else "name")
    assert not result.same


def test_the_noise_of_a_tensor_is_what_numpy_finds():
    first, second = net(), net(spoiled="wa")
    request = CompareRequest(layers=True)
    result = compare_models(first, second, request)
    weights = [m.model.graph.initializers["wa"].const_value.numpy() for m in (first, second)]
    signal = error = 0.0
    for feeds in sample_stream(first, request)():
        before, after = (feeds["x"].astype(np.float64) @ w for w in weights)
        signal, error = signal + (before**2).sum(), error + ((after - before) ** 2).sum()
    assert result.layers[0].snr_db == pytest.approx(10 * np.log10(signal / error), abs=1e-3)


def test_small_groups_find_the_same(monkeypatch):
    sessions = []
    real = noise.Session
    monkeypatch.setattr(noise, "Session", lambda *a, **k: sessions.append(1) or real(*a, **k))
    whole = compare_models(net(), net(spoiled="wb"), CompareRequest(layers=True))
    assert len(sessions) == 2
    match = correspondence(net().model, net(spoiled="wb").model)
    samples = sample_stream(net(), CompareRequest())
    target = CompareRequest().target
    parts = noise.measure_noise(net(), net(spoiled="wb"), match.pairs, samples, target, 256)
    assert len(sessions) == 2 + 2 * 5  # each tensor is larger than the limit
    assert [parts[layer.tensor].snr_db for layer in whole.layers] == [
        layer.snr_db for layer in whole.layers
    ]


@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("dynamic", {}),
        ("static", {}),
        ("static", {"qoperator": True}),
        ("weight-only", {"bits": 8, "block_size": 16}),
    ],
)
def test_a_quantized_model_is_followed_to_its_end(mode, more, tmp_path):
    np.savez(tmp_path / "x.npz", x=RNG.standard_normal((64, 16)).astype(np.float32))
    data = f"npz:{tmp_path / 'x.npz'}"
    int8 = quantize(net(), QuantizeRequest(mode=mode, data=data, **more)).artifact
    result = compare_models(net(), int8, CompareRequest(data=data, layers=True))
    found = {layer.tensor for layer in result.layers}
    # The static quantizer drops a Relu whose range its zero point holds.
    assert found >= {"b", "d", "y"} if mode == "static" else found == set("abcdy")
    assert all(20 < layer.snr_db < 70 for layer in result.layers)
    assert {layer.tensor for layer in result.ranked()} & {"a", "c", "y"}


def test_equal_models_add_no_noise():
    result = compare_models(net(), net(), CompareRequest(layers=True))
    assert result.same
    assert result.ranked() == ()
    assert all(layer.snr_db == np.inf for layer in result.layers)
    assert result.to_json()["layers"][0]["snr_db"] is None


def test_lost_numbers_are_infinite_noise():
    found = noise.Noise()
    found.add(np.array([1.0, 2.0, np.inf]), np.array([1.0, np.nan, 5.0]))
    assert found.lost == 1
    assert found.ratio == found.max_rel == np.inf
    assert found.snr_db == -np.inf


def test_other_signatures_and_empty_data_are_refused(tmp_path):
    other = net(TEXT.replace("[N, 16] x", "[N, 16] z").replace("(x, wa)", "(z, wa)"))
    with pytest.raises(SmithError, match="inputs differ: x and z"):
        compare_models(net(), other, CompareRequest())
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 16), np.float32))
    with pytest.raises(SmithError, match=r"empty|no samples"):
        compare_models(net(), net(), CompareRequest(data=f"npz:{tmp_path / 'none.npz'}"))


def test_a_turned_sign_is_noise_of_twice_the_signal():
    other = net(TEXT.replace("a = MatMul(x, wa)", "k = Neg(x) a = MatMul(k, wa)"))
    result = compare_models(net(), other, CompareRequest(layers=True))
    assert result.layers[0].before_db == np.inf
    assert result.layers[0].snr_db == pytest.approx(-6.0, abs=0.1)  # -a for a
