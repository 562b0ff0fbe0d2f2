"""Store weights and activations in int8 with ranges learned from data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult, Samples
from onnxsmith.passes.match import all_nodes
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.passes.quantization.calibration.samples import describe_data, refuse_poor_data
from onnxsmith.passes.quantization.select import LeftFloat, label
from onnxsmith.passes.quantization.through_files import quantize_through_files

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


@dataclass(frozen=True)
class QuantizeStatic(QuantizingPass):
    """Store weights and activations in int8, with ranges learned from calibration data.

    ``x = s (q - z)`` for each tensor, written as QuantizeLinear and DequantizeLinear pairs that
    the runtime fuses into integer kernels; activations uint8, weights int8.

    Options: ``per-channel`` scales for weights; ``reduce-range`` for x86 CPUs without VNNI;
    ``method`` of calibration (``minmax`` reduces activations inside the graph, ``entropy`` and
    ``percentile`` hold those of all samples); ``samples`` is the most batches to read.

    Source: ``onnxruntime.quantization.quantize_static``.
    """

    name: ClassVar[str] = "quantize-static"
    needs: ClassVar[tuple[str, ...]] = ("samples",)

    per_channel: bool = True
    reduce_range: bool = False
    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    samples: int = 256
    allow_poor_data: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Calibrate and quantize through onnxruntime.

        Raises:
            SmithError: The data are empty, random, few, or hold NaN or infinity; the model is
                quantized already, or nothing in it can be quantized.
        """
        assert context.samples is not None  # check_context() came first
        refuse_poor_data(context, self.allow_poor_data)
        self.selection.check(model)
        left = LeftFloat()
        for node in all_nodes(model):
            node.name = label(node)
            reason = self.selection.refusal(node)
            if reason:
                left.add(node, reason)
        reader = _Reader(context.samples, self.samples)

        def quantize(source: Path, target: Path) -> None:
            quantize_static(
                source,
                target,
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=_METHODS[self.method],
                nodes_to_exclude=[entry["node"] for entry in left.to_json()],
            )

        result, count = quantize_through_files(model, quantize)
        if reader.samples == 0:
            raise SmithError("the calibration data is empty", "give data with at least one sample")
        details = {
            "quantized": count,
            "left_float": left.to_json(),
            **describe_data(context, reader.samples),
        }
        return PassResult(result, modified=True, details=details)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime publishes no types
    """Streams feeds to the calibrator and refuses values it would silently turn into nonsense."""

    def __init__(self, samples: Samples, limit: int) -> None:
        self._source, self._limit = samples, limit
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the next feeds, None at the end."""
        feeds = next(self._stream, None)
        if feeds is None:
            return None
        for name, array in feeds.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise SmithError(
                    f"the calibration data for {name!r} holds NaN or infinity", "clean the data"
                )
        self.samples += len(next(iter(feeds.values())))
        return feeds

    def rewind(self) -> None:
        """Start again at the first sample."""
        self._stream: Iterator[dict[str, np.ndarray[Any, Any]]] = islice(
            self._source(), self._limit
        )
        self.samples = 0
