"""Hand a model to onnxruntime's quantizers, which read and write files."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.quantization.detect import count_quantized, refuse_quantized
from onnxsmith.storage.load import into_memory, load_model
from onnxsmith.storage.save import save_model


def quantize_through_files(
    model: ir.Model, quantize: Callable[[Path, Path], None]
) -> tuple[ir.Model, int]:
    """Return the quantized model, in memory, and how many of its operators are quantized.

    Args:
        model: The float model.
        quantize: Reads the first path and writes the second.

    Raises:
        SmithError: The model is quantized already, nothing in it can be, or the quantizer fails.
    """
    refuse_quantized(model)
    with tempfile.TemporaryDirectory() as folder, _quiet_logging():
        source, target = Path(folder, "float.onnx"), Path(folder, "quantized.onnx")
        save_model(model, source)
        try:
            quantize(source, target)
        except SmithError:
            raise
        except Exception as error:  # the quantizers raise whatever comes
            text = " ".join(str(error).split())[:300]
            raise SmithError(
                f"onnxruntime's quantizer fails: {type(error).__name__}: {text}",
                "run 'onnxsmith optimize' on the model first",
            ) from error
        quantized = into_memory(load_model(target))
    count = count_quantized(quantized)
    if not count:
        raise SmithError(
            "nothing in the model can be quantized",
            "only matrix products, convolutions and their like can; see 'onnxsmith inspect'",
        )
    quantized.metadata_props.update(model.metadata_props)
    # The quantizer's helper stamps the newest IR version that onnx knows.
    quantized.ir_version = min(quantized.ir_version, max(model.ir_version, 10))
    return quantized, count


@contextlib.contextmanager
def _quiet_logging() -> Iterator[None]:
    """Keep the quantizers' advice to pre-process, which ``optimize`` has done, off the terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
