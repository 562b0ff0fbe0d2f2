"""Walks a graph of MXNet and builds the one of ONNX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.mxnet.attributes import DTYPES, Attributes
from onnxsmith.pipeline.frontends.mxnet.call import Call, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import Graph, dims_of
from onnxsmith.pipeline.frontends.mxnet.params import StoredArray
from onnxsmith.pipeline.frontends.mxnet.symbol import Entry, Node, Symbol
from onnxsmith.pipeline.frontends.mxnet.table import OPERATORS
from onnxsmith.spec import ValueSpec

OLDEST_OPSET = 13
"""What is written for older ones is brought down from this by the version converter."""

_IR_VERSION = 10
_MAX_RESULTS = 100_000


@dataclass(frozen=True)
class Plan:
    """What has to be imported of a graph, found out before any node is built.

    Attributes:
        symbol: The graph.
        params: The weights by name.
        order: Positions of the needed nodes, inputs first.
        operators: The operator of each needed node that is no variable, by position.
    """

    symbol: Symbol
    params: Mapping[str, StoredArray]
    order: Sequence[int]
    operators: Mapping[int, Operator]

    @classmethod
    def make(cls, symbol: Symbol, params: Mapping[str, StoredArray]) -> Plan:
        """Choose the nodes that the outputs need.

        Raises:
            SmithError: One has an operator that is not known here, or the graph has a cycle.
        """
        needed: dict[int, tuple[int, ...]] = {}
        for at, node in enumerate(symbol.nodes):
            unused = OPERATORS[node.op].unused if node.op in OPERATORS else frozenset()
            if unused:
                needed[at] = tuple(n for n in range(len(node.inputs)) if n not in unused)
        order = symbol.order(needed)
        nodes = [symbol.nodes[at] for at in order]
        unknown = [node for node in nodes if not node.is_variable and node.op not in OPERATORS]
        if unknown:
            raise _unknown(unknown)
        operators = {
            at: OPERATORS[symbol.nodes[at].op] for at in order if not symbol.nodes[at].is_variable
        }
        return cls(symbol, params, order, operators)

    def inputs(self) -> list[int]:
        """Return the positions of the variables that are no weights, in the file's order.

        Raises:
            SmithError: A variable that must be a weight is not in the file of weights.
        """
        for at, operator in self.operators.items():
            node = self.symbol.nodes[at]
            for number in sorted(operator.weights):
                if number >= len(node.inputs):
                    continue
                source = self.symbol.nodes[node.inputs[number][0]]
                if source.is_variable and source.name not in self.params:
                    raise SmithError(
                        f"the file of weights has no {source.name[:80]!r}, which {node} needs",
                        "give the .params file that belongs to this graph with --weights",
                    )
        return sorted(
            at
            for at in self.order
            if self.symbol.nodes[at].is_variable and self.symbol.nodes[at].name not in self.params
        )


def build(
    plan: Plan, inputs: Mapping[str, ValueSpec], opset: int, *, guessed: bool = False
) -> ir.Model:
    """Build the ONNX model.

    Args:
        plan: What to import.
        inputs: The signature of each variable that is no weight.
        opset: The ai.onnx opset to write; 13 where an older one is asked for.
        guessed: Whether open sizes are open only because nobody gave them: a layer that needs
            them then asks.

    Raises:
        SizesNeededError: A size is missing or wrong in ``inputs``.
        SmithError: A node cannot be imported.
    """
    return _Importer(plan, inputs, Graph(max(opset, OLDEST_OPSET), guessed=guessed)).run()


class _Importer:
    def __init__(self, plan: Plan, inputs: Mapping[str, ValueSpec], graph: Graph) -> None:
        self.plan = plan
        self.specs = inputs
        self.graph = graph
        self.values: dict[Entry, ir.Value] = {}
        self.variables: dict[str, ir.Value] = {}
        self.inputs: list[ir.Value] = []
        self.used = self._used_outputs()

    def run(self) -> ir.Model:
        nodes = self.plan.symbol.nodes
        for name in dict.fromkeys(
            nodes[at].name for at in sorted(self.plan.order) if nodes[at].is_variable
        ):
            self.graph.unique(name)
        for at in sorted(at for at in self.plan.order if nodes[at].is_variable):
            self._variable(at, nodes[at])
        for at in self.plan.order:
            if not nodes[at].is_variable:
                self._node(at, nodes[at], self.plan.operators[at])
        return self._model(self._outputs())

    def _used_outputs(self) -> dict[int, set[int]]:
        used: dict[int, set[int]] = {}
        for at in self.plan.order:
            for source, output in self.plan.symbol.nodes[at].inputs:
                used.setdefault(source, set()).add(output)
        for source, output in self.plan.symbol.heads:
            used.setdefault(source, set()).add(output)
        return used

    def _variable(self, at: int, node: Node) -> None:
        if node.name in self.variables:  # two variables of one name are one
            self.values[at, 0] = self.variables[node.name]
            return
        array = self.plan.params.get(node.name)
        if array is not None:
            self.variables[node.name] = self.graph.stored(array, node.name)
            self.values[at, 0] = self.variables[node.name]
            return
        spec = self.specs[node.name]
        value = self.graph.input(node.name, _dtype(spec), spec.shape or ())
        self.variables[node.name] = self.values[at, 0] = value
        self.inputs.append(value)

    def _node(self, at: int, node: Node, operator: Operator) -> None:
        self.graph.scope = node.name
        before = len(self.graph.nodes)
        call = Call(
            node,
            Attributes(node.attrs, str(node)),
            self._arguments(node, operator),
            self.graph,
            lambda number: self._flat(node, number),
            frozenset(self.used.get(at, {0})),
        )
        found = operator.convert(call)
        results = (found,) if isinstance(found, ir.Value) else tuple(found)
        if len(results) > _MAX_RESULTS:
            raise call.error(f"it has {len(results)} outputs")
        new = set(self.graph.nodes[before:])
        for number, value in enumerate(results):
            self.values[at, number] = value
            producer = value.producer()
            if producer is None or producer not in new:
                continue  # it is an input of the node, handed through
            if value.name is not None and value.name.startswith(f"{producer.name}_output"):
                self.graph.rename(value, _output_name(node, operator, number, len(results)))
        last = results[0].producer() if results else None
        if last is not None and last in new:
            self.graph.rename_node(last, node.name)

    def _arguments(self, node: Node, operator: Operator) -> tuple[ir.Value | None, ...]:
        values: list[ir.Value | None] = []
        for number, (source, output) in enumerate(node.inputs):
            if number in operator.unused:
                values.append(None)
                continue
            if (source, output) not in self.values:
                raise SmithError(
                    f"{node} uses output {output} of {self.plan.symbol.nodes[source]}, which "
                    "inference does not compute",
                    "leave that output out of the model, and export it again",
                )
            values.append(self.values[source, output])
        # Before 0.9 the file left out auxiliary states; they follow the operator's name.
        for name in operator.inputs[len(values) :]:
            full = f"{node.name}_{name}"
            array = self.plan.params.get(full)
            if array is None:
                break
            values.append(self.graph.stored(array, self.graph.unique(full)))
        return tuple(values)

    def _flat(self, node: Node, number: int) -> list[StoredArray]:
        """Return the stored arrays that input ``number`` is flattened and joined from."""
        found: list[StoredArray] = []
        stack = [node.inputs[number][0]] if number < len(node.inputs) else []
        for _ in range(_MAX_RESULTS):
            if not stack:
                return found
            source = self.plan.symbol.nodes[stack.pop()]
            if source.is_variable and source.name in self.plan.params:
                found.append(self.plan.params[source.name])
            elif source.op in ("Reshape", "reshape", "Flatten", "flatten", "_copy", "identity"):
                stack += [entry[0] for entry in source.inputs[:1]]
            elif source.op in ("_rnn_param_concat", "Concat", "concat"):
                stack += [entry[0] for entry in reversed(source.inputs)]
            else:
                break
        raise SmithError(
            f"{node} takes its weights from {source}, not from the file of weights",
            "give the .params file that belongs to this graph with --weights",
        )

    def _outputs(self) -> list[ir.Value]:
        outputs: list[ir.Value] = []
        for source, number in self.plan.symbol.heads:
            node = self.plan.symbol.nodes[source]
            if (source, number) not in self.values:
                raise SmithError(
                    f"an output of the model is output {number} of {node}, which inference does "
                    "not compute",
                    "leave it out of the model, and export that again",
                )
            value = self.values[source, number]
            self.graph.scope = node.name
            operator = self.plan.operators.get(source)
            given = value.producer() is None or value in outputs
            if given:
                value = self.graph.add("Identity", [value])
            if operator is not None:
                count = sum(1 for at, _ in self.values if at == source)
                wanted = _output_name(node, operator, number, count)
                if value.name != wanted:  # an identity of another node's output
                    self.graph.rename(value, wanted)
            _name_sizes(value)
            outputs.append(value)
        return outputs

    def _model(self, outputs: list[ir.Value]) -> ir.Model:
        graph = ir.Graph(
            self.inputs,
            outputs,
            nodes=self.graph.nodes,
            initializers=list(self.graph.initializers.values()),
            opset_imports={"": self.graph.opset},
            name="mxnet",
        )
        model = ir.Model(graph, ir_version=_IR_VERSION, producer_name="onnxsmith")
        RemoveUnusedNodesPass()(model)
        return model


def _name_sizes(output: ir.Value) -> None:
    """Give the open sizes of an output names of its own."""
    dims = dims_of(output)
    word = re.sub(r"\W+", "_", output.name or "").removesuffix("_output").strip("_")
    names = {2: "height", 3: "width"} if len(dims) == 4 else {}
    output.shape = ir.Shape(
        [
            f"{word}_{names.get(axis, f'dim{axis}')}" if dim is None else dim
            for axis, dim in enumerate(dims)
        ]
    )


def _output_name(node: Node, operator: Operator, number: int, count: int) -> str:
    """Return what MXNet calls the output (``Symbol.list_outputs``)."""
    if number < len(operator.outputs):
        return f"{node.name}_{operator.outputs[number]}"
    numbered = count > 1 or operator.numbered(node.attrs)
    return f"{node.name}_output{number}" if numbered else f"{node.name}_output"


def _dtype(spec: ValueSpec) -> ir.DataType:
    if spec.dtype not in DTYPES:
        raise SmithError(
            f"MXNet has no element type {spec.dtype!r}", f"choose one of {', '.join(DTYPES)}"
        )
    return DTYPES[spec.dtype]


def _unknown(nodes: list[Node]) -> SmithError:
    first = nodes[0]
    others = sorted({node.op[:40] for node in nodes} - {first.op[:40]})
    more = f"; also {', '.join(others[:8])}" if others else ""
    if first.op == "Custom":
        kind = first.attrs.get("op_type", "")[:80]
        return SmithError(
            f"{first} runs the user's own Python code ({kind!r}), which cannot be imported",
            "build the model from MXNet's own operators, and export it again",
        )
    return SmithError(
        f"the operator of {first} cannot be imported{more}",
        "replace it in the model, and export that again",
    )
