"""What is done to every model that comes in, whatever it came from.

Exporters write operators that no runtime has (and only log it), opsets twice, dimensions called
``s77`` or ``unk__655``, and versions that are newer than the runtime reads.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.names import check_signature, name_dimensions, rename
from onnxsmith.pipeline.frontends.repair import repair_graph
from onnxsmith.spec import ValueSpec
from onnxsmith.storage.save import large_initializers, skeleton
from onnxsmith.target import Target

# IR 10 (opset 21) is the newest that the edge runtimes read, and nothing older needs more.
_COMMON_IR = 10
_OLDEST_OPSET = 7
_STACK_TRACE = "pkg.torch.onnx.stack_trace"


@dataclass(frozen=True)
class Finish:
    """What is wanted of a model that came in.

    Attributes:
        target: Bounds opset and IR version.
        opset: The ai.onnx opset, or None to keep the model's where the target reads it.
        inputs: The signature asked for; its dimension names are used.
        renames: Old to new names of inputs, outputs and dimensions.
        domains: Custom operator domains that are let in.
        repair: Whether to mend the graph first; see ``repair.repair_graph``.
    """

    target: Target
    opset: int | None = None
    inputs: tuple[ValueSpec, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    domains: tuple[str, ...] = ()
    repair: bool = False

    def apply(self, model: ir.Model) -> bool:
        """Make the model clean, in place; return whether its operators were changed.

        Raises:
            SmithError: An operator is unknown, the opset cannot be reached, or the checker objects.
            UsageError: A name to be renamed is not there.
        """
        if self.repair:
            repair_graph(model)
        drop_traces(model)
        normalize_imports(model)
        refuse_unknown_operators(model, self.domains)
        converted = self._fit_opset(model)
        model.ir_version = ir_version(model, self.target)
        check_signature(model, self.inputs)
        name_dimensions(model, self.inputs)
        rename(model, self.renames)
        check(model)
        return converted

    def _fit_opset(self, model: ir.Model) -> bool:
        current = model.opset_imports.get("")
        if current is None:
            return False
        wanted = min(current, self.target.max_opset) if self.opset is None else self.opset
        if current == wanted:
            return False
        # Imported only where it is needed: it takes longer than converting a small file.
        from onnxscript import version_converter

        try:
            with _quiet(version_converter.__name__):
                version_converter.convert_version(model, wanted, fallback=True)
        except Exception as error:  # the converter has no common base
            raise _unreachable(current, wanted) from error
        if model.opset_imports.get("") != wanted:
            raise _unreachable(current, wanted)
        refuse_unknown_operators(model, self.domains)
        return True


def check_opset(opset: int, target: Target) -> None:
    """Check that an opset is one that the target reads.

    Raises:
        UsageError: It is not.
    """
    if not _OLDEST_OPSET <= opset <= target.max_opset:
        raise UsageError(
            f"opset {opset} does not fit the target {target.name!r}",
            f"choose {_OLDEST_OPSET} to {target.max_opset}",
        )


def drop_traces(model: ir.Model) -> None:
    """Drop the stack traces that torch leaves in each node: they name the user's files."""
    for node in _all_nodes(model):
        node.metadata_props.pop(_STACK_TRACE, None)
        if node.doc_string and 'File "' in node.doc_string:  # the older exporter's place for it
            node.doc_string = None


def normalize_imports(model: ir.Model) -> None:
    """Import each domain that is used once, and no other.

    onnx_ir has joined doubled imports already. Some converters forget the entry of ai.onnx.
    """
    if "ai.onnx" in model.opset_imports:  # the same domain, spelled out
        model.opset_imports.setdefault("", model.opset_imports.pop("ai.onnx"))
    used = {node.domain for node in _all_nodes(model)}
    if "" in used and "" not in model.opset_imports:
        # ai.onnx.ml 3 came with ai.onnx 15; converters that forget the entry write nothing newer.
        model.opset_imports[""] = 15
    for domain in list(model.opset_imports):
        if domain not in used and domain != "" and not _has_function(model, domain):
            del model.opset_imports[domain]


def refuse_unknown_operators(model: ir.Model, domains: Iterable[str] = ()) -> None:
    """Check that a runtime knows each operator: ONNX's schemas, ORT's, or the model's functions.

    Raises:
        SmithError: Naming the operator and its domain.
    """
    allowed = set(domains)
    contributed = {(schema.domain, schema.name) for schema in runtime.get_all_operator_schema()}
    for node in _all_nodes(model):
        if node.op_identifier() in model.functions or node.domain in allowed:
            continue
        if (node.domain, node.op_type) in contributed and node.domain == "com.microsoft":
            continue
        if node.domain not in ("", "ai.onnx.ml", "ai.onnx.preview.training"):
            raise SmithError(
                f"the operator {node.domain}.{node.op_type} is unknown to ONNX and the runtime",
                f"if it is your own, let it in with --allow-domain {node.domain}",
            )
        opset = node.version or model.opset_imports.get(node.domain, 1)
        if not _is_standard(node, opset):
            raise SmithError(
                f"ONNX has no operator {node.op_type} in opset {opset}"
                + (f" of {node.domain}" if node.domain else ""),
                "the exporter wrote an invalid model: try another --opset, or replace the operator",
            )


def ir_version(model: ir.Model, target: Target) -> int:
    """Return the oldest usual IR version that holds the model's opset.

    Raises:
        SmithError: The target reads none that new.
    """
    opset = model.opset_imports.get("", 1)
    table = [(int(r[1]), int(r[2])) for r in onnx.helper.VERSION_TABLE]
    needed = min((version for version, newest in table if newest >= opset), default=None)
    if needed is None or needed > target.max_ir_version:
        raise SmithError(
            f"opset {opset} is too new for the target {target.name!r}",
            f"convert with --opset {target.max_opset}",
        )
    return max(needed, _COMMON_IR)


def check(model: ir.Model) -> None:
    """Run ONNX's checker with full checks (types and shapes of every node).

    Large weights are not read: the checker sees an empty file of their size in their place.

    Raises:
        SmithError: The checker objects.
    """
    with tempfile.TemporaryDirectory(prefix="onnxsmith-") as name:
        folder = Path(name)
        placed: dict[str, ir.ExternalTensor] = {}
        end = 0
        for value in large_initializers(model):
            tensor = value.const_value
            assert tensor is not None  # it was chosen by its tensor
            shape = ir.Shape(tensor.shape.numpy())
            key = value.name or ""
            placed[key] = ir.ExternalTensor(
                "weights", end, tensor.nbytes, tensor.dtype, shape=shape, name=key
            )
            end += tensor.nbytes
        with (folder / "weights").open("wb") as weights:
            weights.truncate(end)
        path = folder / "model.onnx"
        path.write_bytes(skeleton(model, placed).SerializeToString())
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except Exception as error:  # ValidationError, InferenceError or RuntimeError
            text = " ".join(str(error).replace(name, "").split())[:300]
            raise SmithError(
                f"ONNX's checker refuses the model: {text}",
                "the exporter wrote an invalid model: try another --opset, or --repair",
            ) from error


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a library's logger: what it cannot do is seen from its result."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _all_nodes(model: ir.Model) -> Iterable[ir.Node]:
    for graph in model.graphs():
        yield from graph
    for function in model.functions.values():
        yield from function.all_nodes()


def _is_standard(node: ir.Node, opset: int) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return False
    return not schema.deprecated


def _has_function(model: ir.Model, domain: str) -> bool:
    return any(identifier[0] == domain for identifier in model.functions)


def _unreachable(current: int, wanted: int) -> SmithError:
    return SmithError(
        f"the model cannot be converted from opset {current} to {wanted}",
        "leave --opset away, or choose one closer to the model's",
    )
