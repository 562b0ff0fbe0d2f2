"""Which ways to quantize a search tries, the most promising first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxsmith.pipeline.quantization.request import Method, QuantizeRequest

STATIC = "static"
_METHODS: tuple[Method, ...] = ("mse", "percentile")
_HELPERS = "equalize-layers,correct-biases"


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
    for bits in (8, 4):
        name = f"weight-only, {bits} bits"
        yield name, replace(request, mode="weight-only", bits=bits, max_drop=None)
    for mode, precision in (("fp16", "float16"), ("bf16", "bfloat16")):
        if precision in request.target.precisions:
            yield mode, replace(request, mode=mode, max_drop=None)


def gentler(request: QuantizeRequest) -> Iterator[tuple[str, QuantizeRequest]]:
    """Yield static ways that lose less, for where the plain one loses too much."""
    static = replace(request, mode="static", max_drop=None)
    if request.method == "minmax":
        for method in _METHODS:
            yield f"static, ranges by {method}", replace(static, method=method)
    if not request.prepare:
        yield "static, layers equalized", replace(static, prepare=_HELPERS)
