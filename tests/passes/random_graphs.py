"""Random valid graphs with odd shapes, made by asking the runtime what it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

UNARY = (
    "Abs",
    "Neg",
    "Exp",
    "Relu",
    "Sigmoid",
    "Tanh",
    "Sin",
    "Erf",
    "Identity",
    "Softplus",
    "Floor",
)
BINARY = ("Add", "Sub", "Mul", "Div", "Min", "Max", "MatMul", "Pow")
REDUCERS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin")
SHAPES: tuple[tuple[int, ...], ...] = (
    (),
    (1,),
    (2,),
    (3,),
    (2, 3),
    (1, 3),
    (3, 1),
    (2, 1, 3),
    (3, 3),
    (0, 3),
)
KINDS = ("unary", "binary", "constant", "shape", "transpose", "unsqueeze", "squeeze", "reshape",
         "cast", "slice", "concat", "reduce", "expand", "clip", "softmax", "gather", "where", "if",
         "gemm", "split", "pad", "dropout", "gelu", "neutral", "flatten", "twice")  # fmt: skip


class Builder:
    """Grows a graph node by node.

    Class attributes:
        kinds: What to choose from: ``add_KIND`` are the methods.

    Args:
        seed: Decides everything.
        size: How many steps.
    """

    kinds = KINDS

    def __init__(self, seed: int, size: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = int(self.rng.integers(13, 22))
        self.count = 0
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.inputs: list[str] = []
        for _ in range(int(self.rng.integers(1, 4))):
            name = self.name("x")
            self.inputs.append(name)
            self.shapes[name] = self.pick(SHAPES)
        for _ in range(size):
            getattr(self, f"add_{self.pick(self.kinds)}")()

    def pick(self, items: Any) -> Any:
        return list(items)[int(self.rng.integers(len(items)))]

    def name(self, stem: str = "v") -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def some(self, rank: int = 0) -> str:
        fit = [name for name, shape in self.shapes.items() if len(shape) >= rank]
        return (
            str(self.pick(fit))
            if fit
            else self.weight(self.rng.uniform(0.5, 2, (2, 3)[-rank:] if rank else ()))
        )

    def weight(self, array: Any, dtype: Any = np.float32) -> str:
        name = self.name("w")
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        if dtype == np.float32:
            self.shapes[name] = np.asarray(array).shape
        return name

    def ints(self, *numbers: int) -> str:
        return self.weight(np.array(numbers), np.int64)

    def put(self, kind: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = self.name()
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.shapes[name] = tuple(int(size) for size in shape)
        return name

    def add_unary(self) -> None:
        value = self.some()
        self.put(self.pick(UNARY), [value], self.shapes[value])

    def add_binary(self) -> None:
        left, right, kind = self.some(), self.some(), self.pick(BINARY)
        a, b = (np.empty(self.shapes[v]) for v in (left, right))
        try:
            shape = (
                np.matmul(a, b).shape if kind == "MatMul" else np.broadcast_shapes(a.shape, b.shape)
            )
        except ValueError:
            return
        self.put(kind, [left, right], shape)

    def add_constant(self) -> None:
        self.weight(self.rng.uniform(-2, 2, self.pick(SHAPES)))

    def add_shape(self) -> None:
        value = self.some(1)
        rank = len(self.shapes[value])
        made = self.name()
        self.nodes.append(helper.make_node("Shape", [value], [made]))
        self.put("Cast", [made], (rank,), to=TensorProto.FLOAT)

    def add_transpose(self) -> None:
        value = self.some(1)
        perm = [int(axis) for axis in self.rng.permutation(len(self.shapes[value]))]
        self.put("Transpose", [value], tuple(self.shapes[value][a] for a in perm), perm=perm)

    def add_unsqueeze(self) -> None:
        value = self.some()
        axis = int(self.rng.integers(-1, len(self.shapes[value]) + 1))
        self.put(
            "Unsqueeze",
            [value, self.ints(axis)],
            np.expand_dims(np.empty(self.shapes[value]), axis).shape,
        )

    def add_squeeze(self) -> None:
        value = self.some()
        shape = self.shapes[value]
        if 1 in shape:
            axis = shape.index(1)
            self.put(
                "Squeeze", [value, self.ints(axis - len(shape))], shape[:axis] + shape[axis + 1 :]
            )

    def add_reshape(self) -> None:
        value = self.some()
        shape = self.shapes[value]
        if 0 in shape:
            return
        target = list(self.rng.permutation(shape)) if shape else [1]
        self.put("Reshape", [value, self.ints(*map(int, target))], tuple(target))

    def add_cast(self) -> None:
        value, made = self.some(), self.name()
        to = self.pick((TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT32))
        self.nodes.append(helper.make_node("Cast", [value], [made], to=to))
        self.put("Cast", [made], self.shapes[value], to=TensorProto.FLOAT)

    def add_slice(self) -> None:
        value = self.some(1)
        axis = int(self.rng.integers(len(self.shapes[value])))
        first, last, step = self.pick(((0, 9999, 1), (1, -1, 1), (-1, -9999, -1), (0, 2, 1)))
        index = [slice(None)] * len(self.shapes[value])
        index[axis] = slice(first, None if last == -9999 else last, step)
        shape = np.empty(self.shapes[value])[tuple(index)].shape
        self.put(
            "Slice",
            [value, self.ints(first), self.ints(last), self.ints(axis), self.ints(step)],
            shape,
        )

    def add_concat(self) -> None:
        value = self.some(1)
        shape = self.shapes[value]
        axis = int(self.rng.integers(-len(shape), len(shape)))
        same = [name for name, other in self.shapes.items() if other == shape]
        self.put(
            "Concat",
            [value, self.pick(same)],
            np.concatenate([np.empty(shape)] * 2, axis).shape,
            axis=axis,
        )

    def add_reduce(self) -> None:
        value = self.some(1)
        if 0 in self.shapes[value]:
            return
        keep = int(self.rng.integers(2))
        shape = np.sum(np.empty(self.shapes[value]), axis=-1, keepdims=bool(keep)).shape
        kind = "ReduceSum" if self.opset < 18 else self.pick(REDUCERS)
        self.put(kind, [value, self.ints(-1)], shape, keepdims=keep)

    def add_expand(self) -> None:
        value = self.some()
        target = self.pick(((2, 3), (1,), (1, 1), (4, 1, 1)))
        try:
            shape = np.broadcast_shapes(self.shapes[value], target)
        except ValueError:
            return
        self.put("Expand", [value, self.ints(*target)], shape)

    def add_clip(self) -> None:
        value, low, high = self.some(), self.weight(-1.0), self.weight(1.0)
        bounds = self.pick(([low], ["", high], [low, high], []))
        self.put("Clip", [value, *bounds], self.shapes[value])

    def add_softmax(self) -> None:
        value = self.some(1)
        self.put("Softmax", [value], self.shapes[value], axis=-1)

    def add_gather(self) -> None:
        value = self.some(1)
        if self.shapes[value][-1]:
            self.put("Gather", [value, self.weight(-1, np.int64)], self.shapes[value][:-1], axis=-1)

    def add_where(self) -> None:
        value, made = self.some(), self.name()
        self.nodes.append(helper.make_node("Less", [value, value], [made]))
        self.put("Where", [made, value, self.weight(0.5)], self.shapes[value])

    def add_if(self) -> None:
        value, made = self.some(), self.name()
        known = bool(self.rng.integers(2))
        if known:
            condition = self.weight(np.array(bool(self.rng.integers(2))), np.bool_)
        else:
            total = self.put("ReduceSum", [value], (), keepdims=0)
            self.nodes.append(helper.make_node("Less", [total, self.weight(0.0)], [made]))
            condition = made
        branches = []
        for kind in (self.pick(UNARY), self.pick(UNARY)):
            inner = self.name("b")
            info = helper.make_tensor_value_info(inner, TensorProto.FLOAT, self.shapes[value])
            branches.append(
                helper.make_graph([helper.make_node(kind, [value], [inner])], "b", [], [info])
            )
        self.put(
            "If", [condition], self.shapes[value], then_branch=branches[0], else_branch=branches[1]
        )

    def add_gemm(self) -> None:
        value = self.some(2)
        shape = self.shapes[value]
        if len(shape) == 2:
            bias = self.weight(self.rng.uniform(-1, 1, self.pick(((4,), (1, 4), ()))))
            product = self.put(
                "MatMul",
                [value, self.weight(self.rng.uniform(-1, 1, (shape[1], 4)))],
                (shape[0], 4),
            )
            self.put("Add", [bias, product], (shape[0], 4))

    def add_split(self) -> None:
        value = self.some(1)
        shape = self.shapes[value]
        if shape[0] < 2:
            return
        parts = self.ints(1, shape[0] - 1)
        names = [self.name("s"), self.name("t")]
        self.nodes.append(helper.make_node("Split", [value, parts], names, axis=0))
        self.shapes[names[0]], self.shapes[names[1]] = (1, *shape[1:]), (shape[0] - 1, *shape[1:])

    def add_pad(self) -> None:
        value = self.some(1)
        rank = len(self.shapes[value])
        width = int(self.rng.integers(2))
        self.put(
            "Pad",
            [value, self.ints(*[width] * (2 * rank))],
            tuple(s + 2 * width for s in self.shapes[value]),
        )

    def add_dropout(self) -> None:
        value = self.some()
        self.put("Dropout", [value], self.shapes[value])

    def add_gelu(self) -> None:
        value = self.some()
        shape = self.shapes[value]
        ratio = self.put("Div", [value, self.weight(np.sqrt(2))], shape)
        above = self.put("Add", [self.put("Erf", [ratio], shape), self.weight(1.0)], shape)
        self.put("Mul", [self.put("Mul", [value, above], shape), self.weight(0.5)], shape)

    def add_neutral(self) -> None:
        value = self.some()
        kind, number = self.pick(
            (("Add", 0.0), ("Mul", 1.0), ("Sub", 0.0), ("Div", 1.0), ("Mul", 2.0))
        )
        shape = self.pick(((), (1,), (1, 1)))
        self.put(
            kind,
            [value, self.weight(np.full(shape, number))],
            np.broadcast_shapes(self.shapes[value], shape),
        )

    def add_flatten(self) -> None:
        value = self.some()
        shape = self.shapes[value]
        axis = int(self.rng.integers(len(shape) + 1))
        self.put(
            "Flatten", [value], (int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))), axis=axis
        )

    def add_twice(self) -> None:
        if self.nodes:
            node = self.pick(self.nodes)
            if len(node.output) == 1 and node.output[0] in self.shapes:
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                copy.output[0] = self.name()
                self.shapes[copy.output[0]] = self.shapes[node.output[0]]
                self.nodes.append(copy)

    def model(self) -> onnx.ModelProto:
        made = [name for node in self.nodes for name in node.output if name in self.shapes]
        # The last ones, and some from between, also where others read them.
        wanted = sorted({*made[-3:], *(self.pick(made) for _ in range(2) if made)})
        symbolic = bool(self.rng.integers(2))
        graph = helper.make_graph(
            self.nodes,
            "random",
            [self.info(name, symbolic=False) for name in self.inputs],
            [self.info(name, symbolic=symbolic) for name in wanted],
            self.weights,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10
        )

    def info(self, name: str, *, symbolic: bool) -> onnx.ValueInfoProto:
        shape = self.shapes[name]
        dims = [f"{name}_{axis}" for axis in range(len(shape))] if symbolic else shape
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
