"""Shapes of a graph's inputs, which its file does not tell: worked out from the weights.

A shape is followed from an input to the first operator that fixes its form: a convolution's
weight tells the channels and the number of axes, a dense layer's the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.mxnet.attributes import DTYPE_NUMBERS, Attributes
from onnxsmith.pipeline.frontends.mxnet.graph import Dim
from onnxsmith.pipeline.frontends.mxnet.importer import Plan
from onnxsmith.pipeline.frontends.mxnet.params import StoredArray
from onnxsmith.pipeline.frontends.mxnet.symbol import Entry, Node
from onnxsmith.spec import ValueSpec

Dims = list[Dim]

_SPACE = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_DEPTH = 256


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Their result has the shape of their first input.
_KEEPING = _words(
    """Activation LeakyReLU BatchNorm BatchNorm_v1 CuDNNBatchNorm InstanceNorm LRN L2Normalization
    Dropout Cast cast amp_cast identity _copy BlockGrad clip relu sigmoid tanh softsign sqrt square
    exp log abs negative _plus_scalar _minus_scalar _mul_scalar _div_scalar _rminus_scalar
    _rdiv_scalar _power_scalar _PlusScalar _MinusScalar _MulScalar _DivScalar _maximum_scalar
    _minimum_scalar softmax SoftmaxActivation LayerNorm SequenceMask SequenceReverse
    """
)
_PAIRS = _words(
    "elemwise_add elemwise_sub elemwise_mul elemwise_div _Plus _plus _Minus _minus _Mul _mul"
)
# Their result has the axes of their first input and its channels, but other sizes.
_RESIZING = _words("Pooling Pooling_v1 UpSampling _contrib_BilinearResize2D")


@dataclass(frozen=True)
class _Use:
    """One place where an entry is used: a node, and the number of its input."""

    at: int
    number: int


def find_inputs(plan: Plan, given: Sequence[ValueSpec]) -> tuple[dict[str, ValueSpec], list[str]]:
    """Return the signature of each input, and the names of those whose shape nothing tells.

    What is given comes first, then ``__shape__`` in the file, then what follows from the weights.

    Raises:
        UsageError: A given name is no input.
        SmithError: A weight is missing.
    """
    nodes = plan.symbol.nodes
    positions: dict[str, int] = {}
    for at in plan.inputs():
        positions.setdefault(nodes[at].name, at)
    wanted = {spec.name: spec for spec in given}
    for name in wanted:
        if name not in positions:
            known = ", ".join(repr(n[:80]) for n in positions) or "none"
            raise UsageError(f"the graph has no input {name!r}", f"its inputs: {known}")
    finder = _Finder(plan)
    found: dict[str, ValueSpec] = {}
    open_: list[str] = []
    several = len(positions) > 1
    for name, at in positions.items():
        if name in wanted:
            found[name] = wanted[name]
            continue
        spec = _from_hints(nodes[at])
        if spec is None and (dims := finder.expect((at, 0))) is not None:
            spec = ValueSpec(name, finder.dtype((at, 0)), tuple(dims))
        if spec is None:
            open_.append(name)
        else:
            found[name] = _own_names(spec) if several else spec
    return {name: found[name] for name in positions if name in found}, open_


def _from_hints(node: Node) -> ValueSpec | None:
    """Read ``__shape__`` and ``__dtype__``, which some tools write; 0 and -1 stay open."""
    hints = Attributes(node.hints, str(node))
    shape = hints.integers("__shape__")
    if not shape or len(shape) > 8:
        return None
    number = hints.integer("__dtype__", 0)
    dtype = DTYPE_NUMBERS.get(number, ir.DataType.FLOAT)
    names = ("batch", *(f"dim{axis}" for axis in range(1, len(shape))))
    if len(shape) in (3, 4, 5):
        names = ("batch", "channels", *_SPACE[len(shape) - 2])
    dims = tuple(dim if dim > 0 else names[axis] for axis, dim in enumerate(shape))
    return ValueSpec(node.name, str(dtype.numpy()), dims)


def _own_names(spec: ValueSpec) -> ValueSpec:
    """Prefix all open sizes but batch and time, which several inputs share."""
    dims = tuple(
        f"{spec.name}_{dim}" if isinstance(dim, str) and dim not in ("batch", "time") else dim
        for dim in spec.shape or ()
    )
    return ValueSpec(spec.name, spec.dtype, dims)


class _Finder:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.uses: dict[Entry, list[_Use]] = {}
        for at in sorted(plan.order):
            for number, entry in enumerate(plan.symbol.nodes[at].inputs):
                self.uses.setdefault(entry, []).append(_Use(at, number))

    def expect(self, entry: Entry, depth: int = 0) -> Dims | None:
        """Return the shape that the users of an entry ask for."""
        if depth > _DEPTH:
            return None
        for use in self.uses.get(entry, ()):
            try:
                dims = self._asked(use, depth)
            except SmithError:  # a malformed attribute: its own operator will say so
                dims = None
            if dims is not None:
                return dims
        return None

    def dtype(self, entry: Entry) -> str:
        """Return the element type of the first weight that an input meets."""
        seen = 0
        while seen < _DEPTH:
            uses = self.uses.get(entry, [])
            if not uses:
                break
            node = self.plan.symbol.nodes[uses[0].at]
            if node.op in ("Cast", "cast", "amp_cast", "Embedding", "take", "one_hot"):
                break
            weight = self._weight(node, 1)
            if weight is not None and node.op in ("Convolution", "FullyConnected"):
                return str(weight.dtype.numpy())
            entry = (uses[0].at, 0)
            seen += 1
        return "float32"

    def _asked(self, use: _Use, depth: int) -> Dims | None:
        node = self.plan.symbol.nodes[use.at]
        if use.number == 0 and node.op in _RULES:
            return _RULES[node.op](self, node, use.at, depth)
        if node.op == "RNN" and use.number in (2, 3):
            return self._state(node)
        passes = (use.number == 0 and node.op in _KEEPING) or node.op in _PAIRS
        if passes or (use.number == 0 and node.op in _RESIZING):
            dims = self.expect((use.at, 0), depth + 1)
            if dims is None or node.op not in _RESIZING:
                return dims
            return [*dims[:2], *_SPACE.get(len(dims) - 2, ())] if 3 <= len(dims) <= 5 else None
        return None

    def _weight(self, node: Node, number: int) -> StoredArray | None:
        if number >= len(node.inputs):
            return None
        return self.plan.params.get(self.plan.symbol.nodes[node.inputs[number][0]].name)

    def _state(self, node: Node) -> Dims | None:
        attrs = Attributes(node.attrs, str(node))
        both = 2 if attrs.flag("bidirectional", False) else 1
        return [attrs.integer("num_layers", 1) * both, "batch", attrs.integer("state_size", 0)]

    def convolution(self, node: Node, at: int, depth: int) -> Dims | None:
        weight = self._weight(node, 1)
        if weight is None or not 3 <= len(weight.shape) <= 5:
            return None
        groups = Attributes(node.attrs, str(node)).integer("num_group", 1)
        channels = weight.shape[0] if node.op == "Deconvolution" else weight.shape[1] * groups
        return ["batch", channels, *_SPACE[len(weight.shape) - 2]]

    def dense(self, node: Node, at: int, depth: int) -> Dims | None:
        weight = self._weight(node, 1)
        if weight is None or len(weight.shape) != 2:
            return None
        return ["batch", weight.shape[1]]

    def embedding(self, node: Node, at: int, depth: int) -> Dims | None:
        dims = self.expect((at, 0), depth + 1)
        return dims[:-1] if dims is not None and len(dims) > 1 else None

    def recurrent(self, node: Node, at: int, depth: int) -> Dims | None:
        """Take the width from the first weight: (gates * state, width)."""
        source = self.plan.symbol.nodes[node.inputs[1][0]] if len(node.inputs) > 1 else None
        while source is not None and not source.is_variable and source.inputs:
            source = self.plan.symbol.nodes[source.inputs[0][0]]
        weight = self.plan.params.get(source.name) if source is not None else None
        if weight is None:
            return None
        if len(weight.shape) == 2:
            return ["time", "batch", weight.shape[1]]
        return ["time", "batch", "width"]

    def swap(self, node: Node, at: int, depth: int) -> Dims | None:
        dims = self.expect((at, 0), depth + 1)
        attrs = Attributes(node.attrs, str(node))
        first, second = attrs.integer("dim1", 0), attrs.integer("dim2", 0)
        if dims is None or not 0 <= max(first, second) < len(dims) or min(first, second) < 0:
            return None
        dims = list(dims)
        dims[first], dims[second] = dims[second], dims[first]
        return dims

    def transpose(self, node: Node, at: int, depth: int) -> Dims | None:
        dims = self.expect((at, 0), depth + 1)
        if dims is None:
            return None
        order = Attributes(node.attrs, str(node)).integers("axes")
        order = order or tuple(reversed(range(len(dims))))
        if sorted(order) != list(range(len(dims))):
            return None
        return [dims[order.index(axis)] for axis in range(len(dims))]

    def flatten(self, node: Node, at: int, depth: int) -> Dims | None:
        return self.expect((at, 0), depth + 1)

    def expand(self, node: Node, at: int, depth: int) -> Dims | None:
        dims = self.expect((at, 0), depth + 1)
        axis = Attributes(node.attrs, str(node)).integer("axis", 0)
        if dims is None or not -len(dims) <= axis < len(dims):
            return None
        axis %= len(dims)
        return [*dims[:axis], *dims[axis + 1 :]]

    def slices(self, node: Node, at: int, depth: int) -> Dims | None:
        """Take one part's shape; the parts of a sequence are its time steps."""
        attrs = Attributes(node.attrs, str(node))
        count, axis = attrs.integer("num_outputs", 1), attrs.integer("axis", 1)
        dims = self.expect((at, 0), depth + 1)
        if dims is None or not 0 <= axis <= len(dims):
            return None
        if attrs.flag("squeeze_axis", False):
            return [*dims[:axis], count, *dims[axis:]]
        if axis == len(dims):
            return None
        size = dims[axis]
        return [*dims[:axis], size * count if isinstance(size, int) else size, *dims[axis + 1 :]]


_RULES: dict[str, Callable[[_Finder, Node, int, int], Dims | None]] = {
    "Convolution": _Finder.convolution,
    "Convolution_v1": _Finder.convolution,
    "Deconvolution": _Finder.convolution,
    "FullyConnected": _Finder.dense,
    "Embedding": _Finder.embedding,
    "RNN": _Finder.recurrent,
    "SwapAxis": _Finder.swap,
    "swapaxes": _Finder.swap,
    "transpose": _Finder.transpose,
    "Flatten": _Finder.flatten,
    "flatten": _Finder.flatten,
    "expand_dims": _Finder.expand,
    "SliceChannel": _Finder.slices,
    "split": _Finder.slices,
}
