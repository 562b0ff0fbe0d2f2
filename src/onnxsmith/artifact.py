"""The artifact: a model and how it came to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.inspection.census import count_weights
from onnxsmith.spec import Dim, Kind, ModelSpec, ValueSpec
from onnxsmith.storage.load import load_model, wrap_model
from onnxsmith.storage.maps import map_types, value_type
from onnxsmith.storage.save import save_model, skeleton

HISTORY_KEY = "onnxsmith.history"
"""Model metadata property that holds the history as JSON."""


@dataclass(frozen=True)
class Step:
    """One thing that was done to a model.

    Holds no paths, times or hosts, so that the same input gives the same bytes.

    Attributes:
        name: What was done (``fold-constants``, ``source``).
        kind: ``source``, ``pass``, ``quantize``, ``parity`` and so on.
        options: What was asked for; JSON values.
        result: What came out; JSON values.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the step as JSON values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "options": dict(self.options),
            "result": dict(self.result),
        }


@dataclass(frozen=True)
class Artifact:
    """A model with its history, which travels inside the file.

    Attributes:
        model: The graph; treat it as read-only, passes work on a clone.
        history: The steps that led to it, oldest first.
    """

    model: ir.Model
    history: tuple[Step, ...] = ()

    @classmethod
    def load(cls, path: str | Path, repairs: list[str] | None = None) -> Artifact:
        """Read a model file; its weights stay on disk.

        Args:
            path: The file.
            repairs: Where given, repeated names and missing imports are mended first, and what was
                done is added here, in words.

        Raises:
            SmithError: The file is missing, no ONNX model, truncated or hostile.
        """
        model = load_model(Path(path), repairs)
        return cls(model, _read_history(model.metadata_props.get(HISTORY_KEY)))

    @classmethod
    def from_proto(cls, proto: onnx.ModelProto) -> Artifact:
        """Wrap a model that is in memory already.

        Raises:
            SmithError: It is not valid, or its weights lie in files.
        """
        model = wrap_model(proto)
        return cls(model, _read_history(model.metadata_props.get(HISTORY_KEY)))

    def save(
        self, path: str | Path, external: bool | None = None, shard_bytes: int | None = None
    ) -> None:
        """Write the model and its history; the file appears complete or not at all.

        Args:
            path: The ``.onnx`` file.
            external: Whether weights go to ``STEM.DIGEST.data`` beside it; None keeps the form
                they were loaded in and chooses external beyond 1.9 GB.
            shard_bytes: About how large a data file may be: the weights go to several; None
                writes one.

        Raises:
            SmithError: The file cannot be written.
        """
        self._stamp()
        save_model(self.model, Path(path), external, shard_bytes)

    @cached_property
    def spec(self) -> ModelSpec:
        """The signature: inputs without an initializer, and outputs."""
        graph = self.model.graph
        maps = map_types(self.model)
        return ModelSpec(
            tuple(value_spec(v, maps) for v in graph.inputs if v.name not in graph.initializers),
            tuple(value_spec(v, maps) for v in graph.outputs),
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights, those of subgraphs, functions and Constant nodes included."""
        return sum(total.bytes for total in count_weights(self.model).values())

    def clone(self) -> Artifact:
        """Return a copy whose graph may be edited; tensors are shared."""
        return replace(self, model=self.model.clone())

    def with_step(self, step: Step) -> Artifact:
        """Return the artifact with one more step in its history."""
        return replace(self, history=(*self.history, step))

    def to_proto(self) -> onnx.ModelProto:
        """Return the model with all weights in memory: for small models only."""
        self._stamp()
        proto = skeleton(self.model, {})
        for tensor in proto.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                value = self.model.graph.initializers[tensor.name].const_value
                assert value is not None  # it was serialised from this very tensor
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
                tensor.raw_data = value.tobytes()
        return proto

    def _stamp(self) -> None:
        """Put the history into the model's metadata, where :meth:`load` finds it."""
        if self.history:
            steps = [step.to_json() for step in self.history]
            self.model.metadata_props[HISTORY_KEY] = json.dumps(steps, sort_keys=True)
        else:  # artifacts with another history may share the model
            self.model.metadata_props.pop(HISTORY_KEY, None)


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, read in pieces.

    Raises:
        SmithError: The file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SmithError(f"cannot read {path}: {error.strerror}", "check the path") from error


def dtype_name(dtype: ir.DataType) -> str:
    """Return the element type in numpy's spelling (``float32``, ``string``)."""
    if dtype == ir.DataType.STRING:
        return "string"
    return "unknown" if dtype == ir.DataType.UNDEFINED else str(dtype.numpy())


def value_spec(value: ir.Value, maps: Mapping[str, onnx.TypeProto] | None = None) -> ValueSpec:
    """Return what a value of a graph is.

    Args:
        value: An input or an output.
        maps: Name to type of those values that are maps, which onnx_ir does not hold.
    """
    maps = maps or {}
    if (name := value.name or "") in maps:
        return ValueSpec(name, dtype_name(ir.DataType(value_type(maps[name]))), None, "map")
    dtype = "unknown" if value.dtype is None else dtype_name(value.dtype)
    shape = None if value.shape is None else tuple(_dim(d) for d in value.shape)
    return ValueSpec(value.name or "", dtype, shape, _kind(value.type))


def _dim(dim: int | ir.SymbolicDim) -> Dim:
    if isinstance(dim, int):
        return dim if dim >= 0 else None  # older exporters write -1 for a free dimension
    return dim.value or None


def _kind(type_: ir.TypeProtocol | None) -> Kind:
    if isinstance(type_, ir.SequenceType):
        return "sequence"
    if isinstance(type_, ir.OptionalType):
        return "optional"
    return "sparse_tensor" if isinstance(type_, ir.SparseTensorType) else "tensor"


def _read_history(text: str | None) -> tuple[Step, ...]:
    """Read the history from its JSON text."""
    if text is None:
        return ()
    try:
        return tuple(
            Step(str(s["name"]), str(s["kind"]), dict(s["options"]), dict(s["result"]))
            for s in json.loads(text)
        )
    except (ValueError, TypeError, KeyError) as error:
        raise SmithError(
            f"the model's history is damaged: {error}",
            f"remove the metadata property {HISTORY_KEY!r} from the file",
        ) from error
