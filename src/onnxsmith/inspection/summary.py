"""Everything that `inspect` says of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import onnx_ir as ir

from onnxsmith.artifact import Artifact, Step
from onnxsmith.inspection.census import (
    WeightTotals,
    count_operators,
    count_parameters,
    count_weights,
)
from onnxsmith.inspection.memory import Peak, peak_activations
from onnxsmith.inspection.nodes import NodeCost, cost_nodes
from onnxsmith.inspection.shapes import infer_shapes
from onnxsmith.spec import ModelSpec


@dataclass(frozen=True)
class OperatorCost:
    """What all nodes of one operator cost in one run of the model.

    Attributes:
        operator: The operator's name.
        executions: How often nodes of it run, loops with a known length unrolled.
        macs: Multiply-accumulates.
        flops: All operations.
    """

    operator: str
    executions: int
    macs: int
    flops: int


@dataclass(frozen=True)
class Inspection:
    """What is in a model and what one run of it costs.

    Attributes:
        spec: Inputs and outputs as the file declares them.
        dims: Sizes taken for free dimensions (``?`` stands for those without a name).
        ir_version: Version of the ONNX IR.
        opsets: Opset version by domain.
        producer: Name and version of what wrote the file.
        functions: Names of model-local functions.
        parameters: Number of weights, without indices and masks.
        weights: Elements and bytes by element type.
        operators: How often each operator occurs, subgraphs and functions included.
        costs: Operations by operator, the costliest first.
        nodes: Operations by node, in the order of the graph.
        uncounted: Why operators were left out, by operator.
        peak: Peak of the values between the nodes.
        warnings: What makes the figures incomplete.
        history: How the model came to be.
    """

    spec: ModelSpec
    dims: Mapping[str, int]
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    functions: tuple[str, ...]
    parameters: int
    weights: Mapping[str, WeightTotals]
    operators: Mapping[str, int]
    costs: tuple[OperatorCost, ...]
    nodes: tuple[NodeCost, ...]
    uncounted: Mapping[str, str]
    peak: Peak
    warnings: tuple[str, ...]
    history: tuple[Step, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run, without what is uncounted."""
        return sum(cost.macs for cost in self.costs)

    @property
    def flops(self) -> int:
        """Operations of one run, without what is uncounted."""
        return sum(cost.flops for cost in self.costs)

    @property
    def weight_bytes(self) -> int:
        """Size of all weights in memory."""
        return sum(total.bytes for total in self.weights.values())

    @property
    def memory_bytes(self) -> int:
        """Estimated memory of a run: weights and the peak of the values between the nodes."""
        return self.weight_bytes + self.peak.bytes

    def to_json(self, *, nodes: bool = False) -> dict[str, object]:
        """Return the figures as JSON data; ``nodes`` adds those of each node."""
        data: dict[str, object] = {
            "inputs": [asdict(value) for value in self.spec.inputs],
            "outputs": [asdict(value) for value in self.spec.outputs],
            "dims": dict(self.dims),
            "ir_version": self.ir_version,
            "opsets": dict(self.opsets),
            "producer": self.producer,
            "functions": list(self.functions),
            "parameters": self.parameters,
            "weights": {name: asdict(total) for name, total in self.weights.items()},
            "weight_bytes": self.weight_bytes,
            "peak_activation_bytes": self.peak.bytes,
            "peak_at": self.peak.node,
            "memory_bytes": self.memory_bytes,
            "macs": self.macs,
            "flops": self.flops,
            "operators": dict(self.operators),
            "costs": [asdict(cost) for cost in self.costs],
            "uncounted": dict(self.uncounted),
            "warnings": list(self.warnings),
            "history": [step.to_json() for step in self.history],
        }
        if nodes:
            data["nodes"] = [asdict(node) for node in self.nodes]
        return data


def inspect_artifact(artifact: Artifact, dims: Mapping[str, int] | None = None) -> Inspection:
    """Return what is in ``artifact`` and what one run of it costs; large weights are not read.

    Args:
        artifact: The model.
        dims: Sizes of named input dimensions; others become 1.

    Raises:
        SmithError: No input has one of the named dimensions.
    """
    model = artifact.model
    artifact.spec.with_dims(dims or {})
    shaped = infer_shapes(model, dims or {})
    nodes = cost_nodes(shaped.model.graph)
    peak = peak_activations(shaped.model.graph)
    warnings = [shaped.warning] if shaped.warning else []
    if peak.unknown:
        warnings.append(f"values of unknown size that the memory leaves out: {peak.unknown}")
    if any(node.note for node in nodes):
        warnings.append("loops of unknown length are counted once")
    return Inspection(
        spec=artifact.spec,
        dims=shaped.assumed,
        ir_version=model.ir_version,
        opsets={domain or "ai.onnx": number for domain, number in _opsets(model)},
        producer=f"{model.producer_name or ''} {model.producer_version or ''}".strip(),
        functions=tuple(f"{domain}.{name}" for domain, name, _ in sorted(model.functions)),
        parameters=count_parameters(model),
        weights=count_weights(model),
        operators=count_operators(model),
        costs=_by_operator(nodes),
        nodes=nodes,
        uncounted={node.operator: node.reason for node in nodes if node.reason},
        peak=peak,
        warnings=tuple(warnings),
        history=artifact.history,
    )


def _opsets(model: ir.Model) -> list[tuple[str, int]]:
    return sorted(model.opset_imports.items())


def _by_operator(nodes: tuple[NodeCost, ...]) -> tuple[OperatorCost, ...]:
    totals: dict[str, OperatorCost] = {}
    for node in nodes:
        if node.reason or not node.counted:
            continue
        old = totals.get(node.operator, OperatorCost(node.operator, 0, 0, 0))
        totals[node.operator] = replace(
            old,
            executions=old.executions + node.executions,
            macs=old.macs + node.macs,
            flops=old.flops + node.flops,
        )
    return tuple(sorted(totals.values(), key=lambda cost: (-cost.flops, cost.operator)))
