"""Which ways a search tries, and with which options."""

from dataclasses import replace

from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.search.proposals import (
    gentler,
    proposals,
    smaller,
    stored,
    wider,
)
from onnxsmith.target import TARGETS

REQUEST = QuantizeRequest("auto", data="npz:x.npz", max_drop=0.1)


def test_gentler_ways_choose_ranges_otherwise_and_prepare_the_float_model() -> None:
    found = dict(gentler(REQUEST))
    assert found["static, ranges by percentile"].method == "percentile"
    assert found["static, ranges by minmax"].method == "minmax"
    assert found["static, layers equalized"].prepare == "equalize-layers,correct-biases"
    assert all(way.mode == "static" and way.max_drop is None for way in found.values())
    asked = QuantizeRequest("auto", data="npz:x.npz", method="entropy", prepare="round-weights")
    assert list(gentler(asked)) == []  # the user has chosen both


def test_16_bits_keep_the_sign() -> None:
    (found,) = wider(REQUEST)
    assert (found[1].mode, found[1].activations) == ("static", "uint16")
    (found,) = wider(QuantizeRequest("auto", activations="int8"))
    assert found[1].activations == "int16"
    assert list(wider(QuantizeRequest("auto", target=TARGETS["tensorrt"]))) == []
    assert list(wider(QuantizeRequest("auto", activations="int16"))) == []


def test_4_bits_need_data_and_are_rounded_to_fit_unless_the_user_prepares() -> None:
    plain, fitted = (way for _, way in smaller(REQUEST))
    assert (plain.weights, plain.prepare) == ("int4", "")
    assert (fitted.weights, fitted.prepare) == ("int4", "round-weights:bits=4")
    assert list(smaller(QuantizeRequest("auto"))) == []
    assert list(smaller(QuantizeRequest("auto", data="npz:x.npz", weights="int4"))) == []
    own = QuantizeRequest("auto", data="npz:x.npz", prepare="smooth-quant")
    assert [way.prepare for _, way in smaller(own)] == ["smooth-quant"]


def test_half_precision_is_proposed_where_the_target_computes_in_it() -> None:
    names = [name for name, _ in proposals(QuantizeRequest("auto", target=TARGETS["cuda"]))]
    assert names == ["dynamic", "fp16", "bf16"]


def test_weights_alone_are_stored_in_8_and_4_bits_and_multiplied_in_float_or_int8() -> None:
    found = [way for _, way in stored(REQUEST)]
    assert [(way.bits, way.accuracy_level) for way in found] == [(8, 0), (8, 4), (4, 0), (4, 4)]
    for own in ({"accuracy_level": 1}, {"form": "dequantize"}):
        request = replace(REQUEST, **own)  # type: ignore[arg-type]  # mypy sees one type for all
        assert [name for name, _ in stored(request)] == [
            "weight-only, 8 bits",
            "weight-only, 4 bits",
        ]
