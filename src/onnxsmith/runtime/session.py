"""Run an artifact on ONNX Runtime with explicit providers and no surprises."""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import numpy_dtype
from onnxsmith.runtime.memory import View, release_free_memory
from onnxsmith.runtime.providers import CPU, missing_provider, provider_name, resolve_providers
from onnxsmith.runtime.settings import (
    DISABLED_KEY,
    LEVEL_KEY,
    LEVELS,
    NHWC_KEY,
    provider_options,
    travelling_settings,
)
from onnxsmith.runtime.values import dense, needs_raw, run_raw
from onnxsmith.runtime.weights import serialize
from onnxsmith.spec import ValueSpec
from onnxsmith.target import TARGETS, Target

Array = np.ndarray[Any, Any]

_CHANGES_TRAINING = (
    "BiasDropoutFusion", "BiasGeluFusion", "BiasSkipLayerNormFusion", "EliminateDropout",
    "FastGeluFusion", "GeluFusionL1", "GeluFusionL2", "LayerNormFusionL1", "LayerNormFusionL2",
    "QuickGeluFusion", "SimplifiedLayerNormFusion", "SkipLayerNormFusion",
)  # fmt: skip
"""What the runtime must leave alone in training. Dropout goes where nobody reads its mask, in
training mode as well (1.31); the others round in another way, depending on what else is read."""

# "/path/file.cc:87 virtual T onnxruntime::C::f(int, const S&) const [with X = Y] "
_SOURCE_PLACE = re.compile(
    r"\b\w+\.(?:cc|h|hpp|cu|cuh):\d+ (?:operator\(\)|\w+) (?=[A-Z])|"
    r"/\S+\.(?:cc|h|hpp|cu|cuh):\d+ [^()]*\((?:[^()]|\([^()]*\))*\)"
    r"(?: const)?(?: \[with [^\]]*\])? "
)


@dataclass(frozen=True)
class Placement:
    """Where one node of the runtime's final graph runs."""

    node: str
    op_type: str
    provider: str


class Session:
    """A model ready to run; a context manager.

    Weights are read from where they lie, not copied.

    Args:
        artifact: The model.
        target: Supplies the providers where none are given.
        threads: Threads within an operator; None leaves the choice to the runtime.
        providers: Execution providers in order of preference, instead of the target's.
        require_provider: A provider that must be in use, or the session fails.
        optimize: False switches all of the runtime's graph optimisations, weight packing and
            pooling of memory off: what runs is the graph as it stands, in as little memory as it
            takes, which is what a check wants.
        spin: Whether idle threads wait busily, as the runtime has them do: quickest for one
            session, a disturbance where several take turns in one process.
        lean: As training wants it. Free each value as soon as it has been read for the last time,
            instead of laying them all out in one block beforehand: half the memory where much is
            read late, and slower. Run nodes in the order of the graph, where the runtime does not
            lay convolutions out anew: a gradient is written in the order that frees values
            soonest. And drop no Dropout.
        save_optimized: Where the runtime writes the graph that it made, weights in a file beside.
        profile: How the name of the file begins that the runtime writes its times to.

    Raises:
        SmithError: The runtime refuses the model, or a provider is not there.
    """

    def __init__(
        self,
        artifact: Artifact,
        target: Target = TARGETS["cpu"],
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        require_provider: str | None = None,
        optimize: bool = True,
        spin: bool = True,
        lean: bool = False,
        save_optimized: Path | None = None,
        profile: Path | None = None,
    ) -> None:
        self.artifact = artifact
        self.spec = artifact.spec
        self._raw = any(needs_raw(v.dtype) for v in (*self.spec.inputs, *self.spec.outputs))
        self._files = contextlib.ExitStack()
        self._lean = not optimize
        names = resolve_providers(target, providers)
        options = session_options(artifact, threads=threads, optimize=optimize, spin=spin)
        if lean:
            options.enable_mem_pattern = False
            own = travelling_settings(artifact).get(DISABLED_KEY, "").split(";")
            left = [name for name in (*own, *_CHANGES_TRAINING) if name]
            options.add_session_config_entry(DISABLED_KEY, ";".join(dict.fromkeys(left)))
            nodes = ir.traversal.RecursiveGraphIterator(artifact.model.graph)
            if not any(node.op_type == "Conv" for node in nodes):
                options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        if save_optimized is not None:
            _save_optimized(options, save_optimized)
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        try:
            with _quiet():
                payload = serialize(
                    artifact.model,
                    target.max_ir_version,
                    options,
                    self._files,
                    share=not optimize and names == (CPU,),
                )
                self._session = ort.InferenceSession(
                    payload,
                    options,
                    providers=list(names),
                    provider_options=provider_options(artifact, names),
                )
        except SmithError:
            self._files.close()
            raise
        except OSError as error:
            self._files.close()
            raise SmithError(
                f"cannot write the weights for the runtime: {error.strerror}",
                f"free some space in {tempfile.gettempdir()}, or set TMPDIR",
            ) from error
        except Exception as error:  # the runtime's errors have no common base
            self._files.close()
            raise SmithError(
                f"the runtime refuses the model: {runtime_message(error)}",
                "see 'onnxsmith inspect' for its operators and opsets",
            ) from error
        self._check_providers(names, require_provider)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the runtime's session and any temporary weights; it cannot run afterwards."""
        had = self.__dict__.pop("_session", None) is not None
        self._files.close()
        if had and self._lean:
            release_free_memory()

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers in use, in order of preference."""
        return tuple(self._session.get_providers())

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Return the outputs by name.

        Args:
            feeds: Input name to array. Missing, unknown and ill-typed inputs are errors.
            outputs: Which outputs; None for all.

        Raises:
            SmithError: A feed does not fit the signature, or the runtime fails.
        """
        checked = check_feeds(self.spec.inputs, feeds)
        wanted = [self.spec.output(n) for n in outputs] if outputs else self.spec.outputs
        names = [output.name for output in wanted]
        run = functools.partial(run_raw, self._session) if self._raw else self._session.run
        try:
            results = run(names, checked)
        except SmithError:
            raise
        except Exception as error:  # the runtime's errors have no common base
            raise SmithError(
                f"running the model failed: {runtime_message(error)}",
                "check the inputs' shapes and values",
            ) from error
        return dict(zip(names, map(dense, results), strict=True))

    def end_profiling(self) -> Path:
        """Return the file with the runtime's times; for a session made with ``profile``."""
        return Path(self._session.end_profiling())

    def bind(self) -> Binding:
        """Return an IO binding: inputs and outputs stay on the session's device."""
        return Binding(self._session, self.spec.inputs)

    def placement(self) -> tuple[Placement, ...]:
        """Return which provider runs each node of the graph that the runtime made."""
        return tuple(
            Placement(node.name, node.op_type, group.ep_name)
            for group in self._session.get_provider_graph_assignment_info()
            for node in group.get_nodes()
        )

    def _check_providers(self, asked: tuple[str, ...], required: str | None) -> None:
        """The runtime drops providers that fail to load with no more than a log line."""
        used = self.providers
        wanted = [provider_name(required)] if required else [asked[0]]
        for name in wanted:
            if name not in used:
                self.close()
                raise missing_provider(name)


class Binding:
    """Inputs and outputs bound to a session; outputs are reused while the input shapes stay."""

    def __init__(self, session: ort.InferenceSession, inputs: Sequence[ValueSpec]) -> None:
        self._session = session
        self._inputs = {spec.name: spec for spec in inputs}
        self._binding = session.io_binding()
        self._arrays: dict[str, Array] = {}
        self._views: dict[str, View] = {}
        self._bind_outputs()

    def set_input(self, name: str, array: Array) -> None:
        """Bind ``array`` (copied where the runtime needs it so) to the input ``name``.

        Raises:
            SmithError: The array does not fit, or is of a type that numpy lacks.
        """
        known = self._arrays.get(name)
        if known is None or (known.dtype, known.shape) != (array.dtype, array.shape):
            specs = [self._inputs[name]] if name in self._inputs else []
            array = check_feeds(specs, {name: array})[name]
            if needs_raw(str(array.dtype)):
                raise SmithError(
                    f"the input {name!r} is {array.dtype}, which cannot be bound", "use run"
                )
        # The runtime reads the array in place: it must stay alive and contiguous.
        plain = np.ascontiguousarray(array)
        if known is not None and known.shape != plain.shape:
            self._bind_outputs()
        self._arrays[name] = plain
        self._binding.bind_cpu_input(name, plain)

    def set_view(self, name: str, view: View, *, output: bool = False) -> None:
        """Bind a stretch of memory to an input or an output: it is read or written in place.

        An output that is bound over an input is right only where everything that reads the input
        runs before the output is written.
        """
        if output:
            self._views[name] = view
        bind = self._binding.bind_output if output else self._binding.bind_input
        memory = view.memory
        bind(name, memory.device, 0, memory.dtype.type, list(view.shape), view.pointer)

    def _bind_outputs(self) -> None:
        """Bind outputs without memory; the next run allocates it in the shapes it finds."""
        self._binding.clear_binding_outputs()
        for output in self._session.get_outputs():
            if output.name in self._views:
                self.set_view(output.name, self._views[output.name], output=True)
            else:
                self._binding.bind_output(output.name)

    def run(self) -> None:
        """Run the model on the bound inputs.

        Raises:
            SmithError: The runtime fails.
        """
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # the runtime's errors have no common base
            raise SmithError(
                f"running the model failed: {runtime_message(error)}",
                "check the inputs' shapes and values",
            ) from error

    def outputs(self) -> dict[str, Array]:
        """Return copies of the outputs by name."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._binding.copy_outputs_to_cpu(), strict=True))


def session_options(
    artifact: Artifact, *, threads: int | None = None, optimize: bool = True, spin: bool = True
) -> ort.SessionOptions:
    """Return the runtime's options, with the settings that travel in the artifact.

    Raises:
        SmithError: The artifact's settings are damaged, or ``threads`` is not positive.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if threads is not None:
        if threads < 1:
            raise SmithError(f"cannot run on {threads} threads", "give 1 or more")
        options.intra_op_num_threads = threads
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        # The pool keeps what the largest run took, for as long as any of its outputs is alive.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        return options
    settings = travelling_settings(artifact)
    if LEVEL_KEY in settings:
        options.graph_optimization_level = LEVELS[settings.pop(LEVEL_KEY)]
    settings.pop(NHWC_KEY, None)  # it is the provider's
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    return options


def _save_optimized(options: ort.SessionOptions, path: Path) -> None:
    prefix = "session.optimized_model_external_initializers_"
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry(f"{prefix}file_name", f"{path.name}.data")
    options.add_session_config_entry(f"{prefix}min_size_in_bytes", "1024")


def check_feeds(inputs: Sequence[ValueSpec], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return the feeds in the model's order.

    Raises:
        SmithError: An input is missing or unknown, or its type, rank or a fixed size differs.
    """
    names = {spec.name for spec in inputs}
    unknown = [name for name in feeds if name not in names]
    if unknown:
        raise SmithError(
            f"the model has no input {unknown[0]!r}", f"its inputs: {', '.join(sorted(names))}"
        )
    return {spec.name: _check_feed(spec, feeds) for spec in inputs}


def _check_feed(spec: ValueSpec, feeds: Mapping[str, Array]) -> Array:
    if spec.name not in feeds:
        raise SmithError(f"the input {spec.name!r} is missing", f"give {spec}")
    array = feeds[spec.name]
    if spec.kind != "tensor" or not isinstance(array, np.ndarray):
        return array
    text = spec.dtype == "string" and array.dtype.kind in "OUT"
    if not text and spec.dtype != "unknown" and array.dtype != numpy_dtype(spec.dtype):
        raise SmithError(
            f"the input {spec.name!r} is {array.dtype}, not {spec.dtype}", f"give {spec}"
        )
    if spec.shape is not None and not (
        len(array.shape) == len(spec.shape)
        and all(
            not isinstance(want, int) or have == want
            for have, want in zip(array.shape, spec.shape, strict=True)
        )
    ):
        raise SmithError(f"the input {spec.name!r} has shape {list(array.shape)}", f"give {spec}")
    return array


def runtime_message(error: Exception) -> str:
    """Return the runtime's message in one line, without its code's file names."""
    text = " ".join(str(error).split())
    head, _, tail = text.partition("Status Message: ")
    text = _SOURCE_PLACE.sub("", tail or head)
    return (text.rpartition("] : ")[2] or text)[:400]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the runtime's default logger, which speaks before a session's own level counts."""
    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(3)
