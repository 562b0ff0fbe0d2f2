"""What a frontend is: it brings a model of one framework into ONNX.

The parts that import the framework run in a worker process (``worker.py``); the parts that
choose a frontend import nothing. A new framework is one file here and one row in ``table.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from onnxsmith.spec import ValueSpec


@dataclass(frozen=True)
class Match:
    """How sure a frontend is that a source is its own.

    Attributes:
        confidence: 0 to 1.
        reason: Why, as a clause: "the suffix is .pt2".
    """

    confidence: float
    reason: str


@dataclass(frozen=True)
class ConvertRequest:
    """What a frontend needs to know to load and export a source.

    Attributes:
        source: A file, a folder or ``package.module:callable``; a live object's type name.
        weights: A second file that holds the weights, where the frontend uses one.
        inputs: The signature to export with; empty where the source knows it.
        dims: Sizes of the symbolic dimensions of ``inputs`` in the example that is exported.
        opset: The ai.onnx opset to aim at; exporters that cannot reach it come close.
        trust: Whether files that run code when they are loaded may be loaded.
        seed: Seeds the framework's and numpy's generators before user code runs.
        part: Which of the models that the source holds: a SavedModel's signature, the encoder or
            the decoder; None where there is but one, or for the usual one.
    """

    source: str
    weights: str | None = None
    inputs: tuple[ValueSpec, ...] = ()
    dims: Mapping[str, int] = field(default_factory=dict)
    opset: int = 20
    trust: bool = False
    seed: int = 0
    part: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        inputs = [{"name": v.name, "dtype": v.dtype, "shape": v.shape} for v in self.inputs]
        return {**vars(self), "inputs": inputs, "dims": dict(self.dims)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ConvertRequest:
        """Return the request that :meth:`to_json` wrote."""
        inputs = tuple(
            ValueSpec(v["name"], v["dtype"], None if v["shape"] is None else tuple(v["shape"]))
            for v in values["inputs"]
        )
        return cls(**{**values, "inputs": inputs})


@dataclass(frozen=True)
class Export:
    """What an export gave.

    Attributes:
        path: The ONNX file; external data lies beside it.
        examples: The inputs that were exported with, by the ONNX input's name. Probes for parity
            take their sizes and value ranges from them.
        details: Facts for the history: versions, the exporter's route. No paths, times or hosts.
        warnings: What the user should know, one line each.
        untouched: Whether the file is the source itself, so that there is nothing to compare
            unless it is changed later.
        runnable: Whether ``Source.reference`` works here; importers that need no framework say
            False, and stored outputs take its place.
        metadata: What travels in the model file's metadata beside the history: the tokenizer's or
            the preprocessing's settings, as text.
        rows: Whether the examples are rows of a table, with their own range in each column:
            probes of other sizes are then drawn from these rows instead of made up.
        steps: Output name to what the source's own rounding leaves open, in the output's unit:
            one quantization step, or more where the source's kernels differ among themselves.
            One element in a thousand may lie beyond.
    """

    path: Path
    examples: Mapping[str, np.ndarray] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    untouched: bool = False
    runnable: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    rows: bool = False
    steps: Mapping[str, float] = field(default_factory=dict)


class Source(Protocol):
    """A loaded model of a framework: exported and run while it stays in memory."""

    def export(self, folder: Path) -> Export:
        """Write the model as ONNX into ``folder``.

        Raises:
            SmithError: The framework cannot export it.
        """

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the framework's own outputs, by the ONNX output's name.

        Args:
            feeds: One array per ONNX input, by its name as exported.

        Raises:
            SmithError: The model does not run on these inputs.
        """


class Frontend(Protocol):
    """One framework.

    Attributes:
        name: The name on the command line (``--from NAME``).
        extra: The extra of the package that installs what is needed; empty where nothing is.
        packages: Import names that have to be there, looked for without importing them.
        accepts: What it takes, one line for ``onnxsmith frontends list``.
        isolated: Whether it runs in a worker process; only what imports no framework does not.
        environment: The environment that ``onnxsmith env create`` makes for it, used where the
            packages are missing here; empty where it has none.
    """

    name: ClassVar[str]
    extra: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    accepts: ClassVar[str]
    isolated: ClassVar[bool]
    environment: ClassVar[str]

    def match(self, source: str) -> Match | None:
        """Return how sure it is that ``source`` is its own; imports no framework, runs no code."""

    def match_object(self, value: object) -> Match | None:
        """Return how sure it is that a live object is its own; imports no framework."""

    def open(self, request: ConvertRequest) -> Source:
        """Load ``request.source``.

        Raises:
            SmithError: The source is missing, not trusted or of another kind.
        """

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live object of this process.

        Raises:
            SmithError: The object is not ready to export.
        """
