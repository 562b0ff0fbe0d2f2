"""The exporters of torch: by torch.export, and the older one that traces or takes TorchScript."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import torch

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.torch.inputs import Inputs
from onnxsmith.pipeline.frontends.torch.ladder import Written
from onnxsmith.pipeline.frontends.torch.tidy import tidy
from onnxsmith.pipeline.loading import describe
from onnxsmith.storage.save import large_initializers, save_model

# Beyond this, weights go to a file of their own, as users expect of large models.
_EXTERNAL_BYTES = 512 * 1024**2
# Start of each weight in that file: a common page size, so that runtimes can map it.
_ALIGNMENT = 4096
_PIECE_BYTES = 4 * 1024**2
# What the translations of torch.export start from; older opsets are reached by conversion only.
_DYNAMO_OLDEST, _LEGACY_NEWEST, _LEGACY_OLDEST = 18, 20, 7


def export_dynamo(
    model: Any,
    inputs: Inputs,
    outputs: tuple[str, ...],
    opset: int,
    folder: Path,
    *,
    shapes: Any = None,
) -> Written:
    """Export a module or an exported program by torch.export.

    Args:
        model: The module, or the program.
        inputs: Names and examples.
        outputs: Names.
        opset: The ai.onnx opset.
        folder: Where to write.
        shapes: torch.export's ``dynamic_shapes``; a program has its own.

    Raises:
        SmithError: torch cannot.
    """
    is_program = isinstance(model, torch.export.ExportedProgram)
    arguments, named = ((), {}) if is_program else inputs.call(inputs.clones())
    with quiet(), explained():
        program = torch.onnx.export(
            model,
            arguments,
            kwargs=named or None,
            input_names=list(inputs.names),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is, for dynamo without a file
    reached = program.model.opset_imports.get("")
    if opset < _DYNAMO_OLDEST and reached != opset:
        raise SmithError(
            f"torch's exporter reaches no opset below {reached} for this model",
            f"convert with --opset {_DYNAMO_OLDEST} or newer",
        )
    tidy(program.model, symbols=True)
    return Written(write_model(program.model, inputs.names, folder))


def export_legacy(
    model: torch.nn.Module, inputs: Inputs, outputs: tuple[str, ...], opset: int, folder: Path
) -> Written:
    """Export by the older exporter: TorchScript as it stands, other modules by tracing.

    Python's own branches and loops freeze as they ran on the example; what torch saw of that
    comes back as warnings.

    Raises:
        SmithError: torch cannot.
    """
    arguments, named = inputs.call(inputs.clones())
    path = folder / "legacy.onnx"
    with quiet(), explained(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.onnx.export(
            model,
            arguments,
            str(path),
            kwargs=named or None,
            input_names=list(inputs.names),
            output_names=list(outputs),
            dynamic_axes=inputs.dynamic_axes() or None,
            opset_version=max(_LEGACY_OLDEST, min(opset, _LEGACY_NEWEST)),
            dynamo=False,
        )
    frozen = dict.fromkeys(_frozen(w) for w in caught if _is_telling(w))
    exported = ir.load(path)
    # What torch's newer exporter does by itself: folds constants, drops what is not used.
    onnxscript.optimizer.optimize_ir(exported)
    tidy(exported, symbols=False)
    return Written(write_model(exported, inputs.names, folder), tuple(frozen))


def write_model(model: ir.Model, names: tuple[str, ...], folder: Path) -> Path:
    """Write a model into ``folder`` and return the file; its inputs take these names.

    torch renames an input that is an output too.
    """
    if len(model.graph.inputs) != len(names):
        raise SmithError(
            f"the exported model has {len(model.graph.inputs)} inputs, not {len(names)}",
            "leave those that the module does not use out of --input",
        )
    taken = {value.name: value for value in model.graph.outputs}
    for value, name in zip(model.graph.inputs, names, strict=True):
        if value.name != name and name not in taken:
            value.name = name
    path = folder / "model.onnx"
    large = large_initializers(model)
    if sum(value.const_value.nbytes for value in large if value.const_value) > _EXTERNAL_BYTES:
        _move_out(large, folder / "model.data")
        ir.save(model, path)
    else:
        save_model(model, path, external=False)
    return path


def _move_out(large: list[ir.Value], path: Path) -> None:
    """Write weights to a file straight from torch's memory, and let the model name that file."""
    with path.open("wb") as file:
        for value in large:
            tensor = value.const_value
            assert tensor is not None  # it was chosen by its tensor
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            at = file.tell()
            for piece in _pieces(tensor):
                file.write(piece)
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor(
                path.name,
                at,
                tensor.nbytes,
                tensor.dtype,
                shape=shape,
                name=value.name or "",
                base_dir=path.parent,
            )


def _pieces(tensor: ir.TensorProtocol) -> Iterator[bytes | memoryview]:
    """Yield a weight's bytes, little endian; a transposed view is copied some rows at a time."""
    if tensor.dtype.itemsize < 1:  # packed in ONNX, and not in numpy
        yield tensor.tobytes()
        return
    array = tensor.numpy()
    rows = max(1, _PIECE_BYTES * len(array) // array.nbytes)  # no weight this large is a scalar
    for start in range(0, len(array), rows):
        piece = np.ascontiguousarray(array[start : start + rows])
        yield piece.reshape(-1).view(np.uint8).data


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run torch without gradients and without the warnings that its own exporters raise."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what torch's exporters raise into one line of what and one of how to mend it."""
    try:
        yield
    except SmithError:
        raise
    except Exception as error:  # torch.export has no common base
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = str(cause)
        if "Constraints violated" in text or "ConstraintViolation" in type(cause).__name__:
            hint = "a dimension of --input is fixed or bound by the model: write its size instead"
        elif "data-dependent" in text or "GuardOnDataDependent" in type(cause).__name__:
            hint = "the model branches on values: use torch.cond or torch.where there"
        else:
            hint = "make the module exportable by torch.export; its messages are shown above"
        raise SmithError(f"torch cannot export the module: {describe(cause)}", hint) from error


def _is_telling(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, torch.jit._trace.TracerWarning)


def _frozen(warning: warnings.WarningMessage) -> str:
    what = str(warning.message).partition(". ")[0].partition(" might cause")[0]
    place = f"{Path(warning.filename).name}:{warning.lineno}"
    return f"traced, so frozen as it ran on the example: {' '.join(what.split())[:120]} ({place})"
