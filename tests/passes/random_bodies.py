"""Random graphs with bodies, functions, sequences, other types and names of dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from tests.passes.random_graphs import UNARY, Builder

RICH = (
    "unary", "binary", "constant", "shape", "transpose", "reshape", "slice", "concat", "expand",
    "if", "branches", "equal_branches", "loop", "loop", "scan", "function", "function", "sequence",
    "split_sequence", "types", "contrib", "constant_node", "copied_weight", "shape_arithmetic",
    "twice",
)  # fmt: skip
TYPES = (TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32)
SAME_SHAPE = ("Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Sin", "Identity", "Softplus")


class RichBuilder(Builder):
    """Grows graphs of everything that rewriters have to look into or step over."""

    kinds = RICH

    def __init__(self, seed: int, size: int) -> None:
        self.functions: list[onnx.FunctionProto] = []
        super().__init__(seed, size)

    def chance(self) -> bool:
        return bool(self.rng.integers(2))

    def info_of(self, name: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def like(self, shape: tuple[int, ...]) -> str:
        return str(self.pick([name for name, other in self.shapes.items() if other == shape]))

    def chain(self, value: str, shape: tuple[int, ...]) -> tuple[list[onnx.NodeProto], str]:
        """Return a few nodes on a value, which also read others of its shape."""
        nodes = []
        for _ in range(int(self.rng.integers(1, 4))):
            made = self.name("b")
            if self.chance():
                nodes.append(helper.make_node(self.pick(SAME_SHAPE), [value], [made]))
            else:
                nodes.append(helper.make_node("Add", [value, self.like(shape)], [made]))
            value = made
        return nodes, value

    def branch(self, value: str, shape: tuple[int, ...], depth: int) -> onnx.GraphProto:
        nodes, last = self.chain(value, shape)
        if depth and self.chance():
            made = self.name("b")
            nodes.append(self.if_node(last, shape, made, depth - 1))
            last = made
        return helper.make_graph(nodes, "b", [], [self.info_of(last, shape)])

    def if_node(self, value: str, shape: tuple[int, ...], made: str, depth: int) -> onnx.NodeProto:
        condition = self.weight(np.array(self.chance()), np.bool_) if self.chance() else self.flag()
        return helper.make_node(
            "If", [condition], [made],
            then_branch=self.branch(value, shape, depth),
            else_branch=self.branch(value, shape, depth),
        )  # fmt: skip

    def flag(self) -> str:
        """Return a condition that depends on an input."""
        total = self.put("ReduceSum", [self.inputs[0]], (), keepdims=0)
        made = self.name("c")
        self.nodes.append(helper.make_node("Less", [total, self.weight(0.0)], [made]))
        return made

    def add_branches(self) -> None:
        value = self.some()
        node = self.if_node(value, self.shapes[value], self.name(), 2)
        self.nodes.append(node)
        self.shapes[node.output[0]] = self.shapes[value]

    def add_equal_branches(self) -> None:
        value = self.some()
        nodes, last = self.chain(value, self.shapes[value])
        first = helper.make_graph(nodes, "b", [], [self.info_of(last, self.shapes[value])])
        second = onnx.GraphProto()
        second.CopyFrom(first)
        self.put("If", [self.flag()], self.shapes[value], then_branch=first, else_branch=second)

    def add_loop(self) -> None:
        value, other = self.some(), None
        shape = self.shapes[value]
        turns, begins = int(self.rng.integers(0, 4)), self.pick((True, True, True, False))
        number, going, state = self.name("i"), self.name("k"), self.name("s")
        nodes, last = self.chain(state, shape)
        turned, goes_on, scanned = self.name("f"), self.name("k"), self.name("z")
        nodes += [
            helper.make_node("Cast", [number], [turned], to=TensorProto.FLOAT),
            helper.make_node("Mul", [last, turned], [other := self.name("s")]),
            helper.make_node(self.pick(UNARY), [self.pick((last, other))], [scanned]),
        ]
        ends = self.pick(("no", "no", "constant", "soon"))
        if ends == "no":
            nodes.append(helper.make_node("Identity", [going], [goes_on]))
        elif ends == "constant":
            tensor = helper.make_tensor("", TensorProto.BOOL, [], [self.chance()])
            nodes.append(helper.make_node("Constant", [], [goes_on], value=tensor))
        else:
            nodes.append(
                helper.make_node("Less", [number, self.weight(np.array(0), np.int64)], [goes_on])
            )
        state_out = self.pick((last, other))
        body = helper.make_graph(
            nodes, "b",
            [self.info_of(number, (), TensorProto.INT64), self.info_of(going, (), TensorProto.BOOL),
             self.info_of(state, shape)],
            [self.info_of(goes_on, (), TensorProto.BOOL), self.info_of(state_out, shape),
             self.info_of(scanned, shape)],
        )  # fmt: skip
        limit = self.weight(np.array(turns), np.int64)
        made, results = self.name(), self.name("z")
        condition = self.weight(np.array(begins), np.bool_)
        self.nodes.append(
            helper.make_node("Loop", [limit, condition, value], [made, results], body=body)
        )
        self.shapes[made] = shape
        if ends == "no":
            self.shapes[results] = (turns if begins else 0, *shape)

    def add_scan(self) -> None:
        sequence = self.some(1)
        whole = self.shapes[sequence]
        shape = whole[1:]
        fit = [name for name, other in self.shapes.items() if other == shape]
        if not fit or whole[0] == 0:
            return
        state, element, added = self.name("s"), self.name("e"), self.name("s")
        nodes, last = self.chain(element, shape)
        nodes.append(helper.make_node("Sub", [state, last], [added]))
        body = helper.make_graph(
            nodes, "b",
            [self.info_of(state, shape), self.info_of(element, shape)],
            [self.info_of(added, shape), self.info_of(last, shape)],
        )  # fmt: skip
        made, results = self.name(), self.name("z")
        self.nodes.append(
            helper.make_node(
                "Scan", [self.pick(fit), sequence], [made, results], body=body, num_scan_inputs=1
            )
        )
        self.shapes[made], self.shapes[results] = shape, whole

    def add_function(self) -> None:
        value = self.some()
        name = f"F{len(self.functions)}"
        nodes = [
            helper.make_node(self.pick(SAME_SHAPE), ["a"], ["t"]),
            helper.make_node("LeakyRelu", ["t"], ["u"]),
            helper.make_node("Sub", ["u", "a"], ["r"]),
        ]
        reference = onnx.AttributeProto(
            name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT
        )
        nodes[1].attribute.append(reference)
        if self.functions and self.chance():
            inner = str(self.pick(self.functions).name)
            nodes.append(helper.make_node(inner, ["r"], ["q"], domain="own", slope=0.25))
        function = helper.make_function(
            "own", name, ["a"], ["q" if len(nodes) == 4 else "r"], nodes,
            [helper.make_opsetid("", self.opset), helper.make_opsetid("own", 1)], ["slope"],
        )  # fmt: skip
        self.functions.append(function)
        slope = float(self.rng.uniform(0, 1))
        self.put(name, [value], self.shapes[value], domain="own", slope=slope)

    def add_sequence(self) -> None:
        value = self.some(1)
        shape = self.shapes[value]
        sequence, other = self.name("q"), self.like(shape)
        self.nodes.append(helper.make_node("SequenceConstruct", [value, other], [sequence]))
        if self.chance():
            whole = (2 * shape[0], *shape[1:])
            self.put("ConcatFromSequence", [sequence], whole, axis=0)
        place = self.weight(np.array(self.pick((0, 1, -1))), np.int64)
        self.put("SequenceAt", [sequence, place], shape)

    def add_split_sequence(self) -> None:
        value = self.some(1)
        shape = self.shapes[value]
        if not shape[0]:
            return
        sequence, keep = self.name("q"), int(self.rng.integers(2))
        self.nodes.append(
            helper.make_node("SplitToSequence", [value], [sequence], axis=0, keepdims=keep)
        )
        place = self.weight(np.array(-1), np.int64)
        self.put("SequenceAt", [sequence, place], (1, *shape[1:]) if keep else shape[1:])

    def add_types(self) -> None:
        value, kind = self.some(), int(self.pick(TYPES))
        there, done = self.name("t"), self.name("t")
        limits = [self.weight(-9.0), self.weight(9.0)]
        self.nodes.append(helper.make_node("Clip", [value, *limits], [there]))
        whole = self.name("t")
        self.nodes.append(helper.make_node("Cast", [there], [whole], to=kind))
        self.nodes.append(helper.make_node("Add", [whole, whole], [done]))
        self.put("Cast", [done], self.shapes[value], to=TensorProto.FLOAT)

    def add_contrib(self) -> None:
        value = self.some(1)
        self.put(
            self.pick(("Gelu", "FastGelu", "QuickGelu")), [value], self.shapes[value],
            domain="com.microsoft",
        )  # fmt: skip

    def add_constant_node(self) -> None:
        made = self.name()
        floats = [float(number) for number in self.rng.uniform(-1, 1, 3)]
        self.nodes.append(helper.make_node("Constant", [], [made], value_floats=floats))
        self.shapes[made] = (3,)

    def add_copied_weight(self) -> None:
        fit = [tensor for tensor in self.weights if tensor.name in self.shapes]
        if fit:
            copy = onnx.TensorProto()
            copy.CopyFrom(self.pick(fit))
            shape = self.shapes[copy.name]
            copy.name = self.name("w")
            self.weights.append(copy)
            self.shapes[copy.name] = shape

    def add_shape_arithmetic(self) -> None:
        """Reshape to a target that is computed from the value's own shape."""
        value = self.some(1)
        shape = self.shapes[value]
        if 0 in shape:
            return
        dims, first, target = (self.name("d") for _ in range(3))
        self.nodes += [
            helper.make_node("Shape", [value], [dims]),
            helper.make_node("Gather", [dims, self.ints(0)], [first]),
            helper.make_node("Concat", [first, self.ints(-1)], [target], axis=0),
        ]
        self.put("Reshape", [value, target], (shape[0], int(np.prod(shape[1:]))))

    def model(self) -> onnx.ModelProto:
        model = super().model()
        if self.chance():  # dimensions of one size get one name
            for value in model.graph.input:
                for dim in value.type.tensor_type.shape.dim:
                    if dim.dim_value > 1:
                        dim.dim_param = f"d{dim.dim_value}"
        model.functions.extend(self.functions)
        model.opset_import.extend(
            [helper.make_opsetid("own", 1), helper.make_opsetid("com.microsoft", 1)]
        )
        return model
