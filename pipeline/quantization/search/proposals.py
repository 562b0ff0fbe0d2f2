"""Which ways to quantize a search tries, the most promising first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxsmith.pipeline.quantization.request import Activations, Method, QuantizeRequest

STATIC = "static"
WIDE = "static, 16-bit activations"
_METHODS: tuple[Method, ...] = ("percentile", "minmax")
_HELPERS = "equalize-layers,correct-biases"
# Of MatMulNBits: its kernel may compute in int8, which is faster on CPUs.
_IN_INT8 = 4
_TENSORRT = "TensorrtExecutionProvider"
_OF_16_BITS: dict[Activations, Activations] = {"auto": "uint16", "uint8": "uint16", "int8": "int16"}


def proposals(request: QuantizeRequest) -> Iterator[tuple[str, QuantizeRequest]]:
    """Yield names and requests.

    Args:
        request: What the user asked for; without calibration data only modes that need none are
            proposed.
    """
    if request.data is not None:
        yield STATIC, replace(request, mode="static", max_drop=None)
    yield "dynamic", replace(request, mode="dynamic", max_drop=None)
    if request.data is not None and request.scope == "auto":
        products = replace(request, mode="static", scope="products", max_drop=None)
        yield "static, inputs of products only", products
    for mode, precision in (("fp16", "float16"), ("bf16", "bfloat16")):
        if precision in request.target.precisions:
            yield mode, replace(request, mode=mode, max_drop=None)


def stored(request: QuantizeRequest) -> Iterator[tuple[str, QuantizeRequest]]:
    """Yield ways to store weights in fewer bits and compute in float, or nearly so."""
    for bits in (8, 4):
        name = f"weight-only, {bits} bits"
        asked = replace(request, mode="weight-only", bits=bits, max_drop=None)
        yield name, asked
        if request.accuracy_level == 0 and request.form == "matmul-nbits":
            yield f"{name}, products in int8", replace(asked, accuracy_level=_IN_INT8)


def gentler(request: QuantizeRequest) -> Iterator[tuple[str, QuantizeRequest]]:
    """Yield static ways that lose less, for where the plain one loses too much."""
    static = replace(request, mode="static", max_drop=None)
    if request.method == "mse":
        for method in _METHODS:
            yield f"static, ranges by {method}", replace(static, method=method)
    if not request.prepare:
        yield "static, layers equalized", replace(static, prepare=_HELPERS)


def wider(request: QuantizeRequest) -> Iterator[tuple[str, QuantizeRequest]]:
    """Yield static ways with 16 bits: exact but for the weights, and fast on few targets."""
    if takes_wide(request):
        activations = _OF_16_BITS[request.activations]
        yield WIDE, replace(request, mode="static", activations=activations, max_drop=None)


def smaller(request: QuantizeRequest) -> Iterator[tuple[str, QuantizeRequest]]:
    """Yield ways to store weights in 4 bits where activations are integers too.

    The second is for where the first loses too much.
    """
    if request.data is None or request.weights == "int4":
        return
    static = replace(request, mode="static", weights="int4", max_drop=None)
    yield "static, int4 weights", static
    if not request.prepare:
        fitted = replace(static, prepare="round-weights:bits=4")
        yield "static, int4 weights, rounded to fit", fitted


def takes_wide(request: QuantizeRequest) -> bool:
    """Tell whether 16-bit activations are another way, and one that the target knows."""
    return request.activations in _OF_16_BITS and _TENSORRT not in request.target.providers
