"""Connectionist temporal classification: labels of a sequence without their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.autodiff.writer import BOOL, INT64, Writer
from onnxsmith.pipeline.training.losses.base import Loss, Target, mean

FLOAT = ir.DataType.FLOAT
_NEVER = -1e30
_IMPOSSIBLE = -1e20


@dataclass(frozen=True)
class Ctc(Loss):
    """``-log p(labels | x)`` over all ways to place the labels, the mean over samples.

    The output is ``[N, length, classes]``, the labels are ``[N, most]`` classes with -1 behind
    the last. Where the length has no room for the labels, the loss is infinite.

    Attributes:
        blank: The class that means no label.

    Source: Graves et al., "Connectionist Temporal Classification" (2006), equations 6 to 16.
    """

    reads: ClassVar[str | None] = "Softmax"

    blank: int = 0

    def __post_init__(self) -> None:
        if self.blank < 0:
            raise UsageError(f"blank={self.blank} is no class", "write ctc:blank=0")

    @property
    def ignored(self) -> int:
        """What stands behind the last label."""
        return -1

    def target(self, output: ir.Value) -> Target:
        """Return int64 labels."""
        if output.shape is None or len(output.shape) != 3:
            raise SmithError(
                f"the output {output.name!r} is not [N, length, classes]", "choose another --loss"
            )
        return Target(INT64, ir.Shape([output.shape[0], "most_labels"]))

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over samples.

        Its gradient is known in closed form, so that nothing is differentiated through the
        recursions: with ``q`` how probable each class is at each place given the labels, it is
        ``-q`` by the logarithms. ``a + stop(b) - b`` has the value ``a`` and that gradient.
        """
        logarithms = w.op("LogSoftmax", output, attributes={"axis": 2})
        nll, share = _Lattice(w, logarithms, target, self.blank).result()
        each = w.op("Mul", w.cast(logarithms, FLOAT), w.stop(share))
        weighted = mean(w, w.reduce("ReduceSum", each, [1, 2], keep=False))
        value = w.stop(w.op("Add", mean(w, nll), weighted))
        return w.cast(w.op("Sub", value, weighted), output.dtype)


class _Lattice:
    """The places ``blank, first, blank, second, ..., blank`` that a path may be at."""

    def __init__(self, w: Writer, logarithms: ir.Value, target: ir.Value, blank: int) -> None:
        self.w = w
        self.never = w.constant(np.array(_NEVER, np.float32))
        none, space = w.integer(-1), w.integer(blank)
        there = w.op("Greater", target, none, dtype=BOOL)
        count = w.reduce("ReduceSum", w.cast(there, INT64), [1])
        labels = w.op("Where", there, target, space, dtype=INT64)
        wide = w.op("Unsqueeze", labels, w.ints([2]))
        spaces = w.op("Expand", space, w.op("Shape", wide, dtype=INT64))
        pairs = w.op("Concat", spaces, wide, attributes={"axis": 2})
        column = w.op("Expand", space, w.op("Shape", count, dtype=INT64))
        flat = w.op("Reshape", pairs, w.ints([0, -1]))
        self.classes = w.op("Concat", flat, column, attributes={"axis": 1})
        self.column = w.op("Expand", self.never, w.op("Shape", count, dtype=INT64), dtype=FLOAT)
        self.leap = self._leap(space)
        self.first, self.last = self._ends(count)
        depth = w.op("Squeeze", w.op("Shape", logarithms, attributes={"start": 2}, dtype=INT64))
        on_off = w.constant(np.array([0, 1], np.float32))
        choice = w.op("OneHot", self.classes, depth, on_off, attributes={"axis": -1}, dtype=FLOAT)
        self.choice = choice  # [N, places, classes]
        turned = w.op("Transpose", choice, attributes={"perm": [0, 2, 1]})
        emitted = w.op("MatMul", w.cast(logarithms, FLOAT), turned)  # [N, length, places]
        self.emitted = w.op("Transpose", emitted, attributes={"perm": [1, 0, 2]})

    def result(self) -> tuple[ir.Value, ir.Value]:
        """Return ``-log p`` of each sample, and how probable each class is at each place."""
        w = self.w
        ahead = self._scan(self.first, back=False)
        behind = self._scan(self.last, back=True)
        both = w.op("Sub", w.op("Add", ahead, behind), self.emitted)
        top = w.reduce("ReduceLogSumExp", both, [2])  # the same at each place
        total = w.op("Squeeze", w.op("Gather", top, w.integer(0)), w.ints([1]))
        posterior = w.op("Exp", w.op("Sub", both, top))
        by_sample = w.op("Transpose", posterior, attributes={"perm": [1, 0, 2]})
        possible = w.op("Greater", total, w.constant(np.array(_IMPOSSIBLE, np.float32)), dtype=BOOL)
        infinite = w.constant(np.array(np.inf, np.float32))
        nll = w.op("Where", possible, w.op("Neg", total), infinite, dtype=FLOAT)
        return nll, w.op("MatMul", by_sample, self.choice)

    def _leap(self, space: ir.Value) -> ir.Value:
        """Return 0 where a path may come from two places before, ``[N, places]``."""
        w = self.w
        before = w.op("Concat", w.op("Slice", self.classes, w.ints([-2]), w.ints([2**31]),
                                     w.ints([1])),
                      w.op("Slice", self.classes, w.ints([0]), w.ints([-2]), w.ints([1])),
                      attributes={"axis": 1})  # fmt: skip
        # The first two wrap around: the first is a blank, and nothing leaps to the second.
        places = self._places()
        bad = w.op("Or", w.op("Equal", self.classes, space, dtype=BOOL),
                   w.op("Equal", self.classes, before, dtype=BOOL))  # fmt: skip
        bad = w.op("Or", bad, w.op("Less", places, w.integer(2), dtype=BOOL))
        zero = w.constant(np.array(0, np.float32))
        return w.op("Where", bad, self.never, zero, dtype=FLOAT)

    def _places(self) -> ir.Value:
        w = self.w
        count = w.op("Squeeze", w.op("Shape", self.classes, attributes={"start": 1}, dtype=INT64))
        return w.op("Range", w.integer(0), count, w.integer(1))

    def _ends(self, count: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return 0 at the first place, and at the last of each sample: where paths come from."""
        w, places = self.w, self._places()
        zero = w.constant(np.array(0, np.float32))
        last = w.op("Add", count, count)
        at_last = w.op("Equal", places, last, dtype=BOOL)
        at_first = w.op("Equal", places, w.op("Sub", count, count), dtype=BOOL)
        first = w.op("Where", at_first, zero, self.never, dtype=FLOAT)
        return first, w.op("Where", at_last, zero, self.never, dtype=FLOAT)

    def _scan(self, start: ir.Value, *, back: bool) -> ir.Value:
        """Return the sum over paths up to each place, or from it on, ``[length, N, places]``."""
        w = self.w
        inner = w.inner()
        old, emitted = (
            ir.Value(name=w.name(word), type=ir.TensorType(FLOAT), shape=ir.Shape([None, None]))
            for word in ("before", "emitted")
        )
        one, two = self._moved(inner, old, 1, back), self._leapt(inner, old, back)
        parts = [inner.op("Unsqueeze", part, w.ints([0])) for part in (old, one, two)]
        stack = inner.op("Concat", *parts, attributes={"axis": 0})
        new = inner.op(
            "Add", inner.reduce("ReduceLogSumExp", stack, [0], keep=False), emitted, dtype=FLOAT
        )
        copied = inner.op("Identity", new)
        for value in (new, copied):
            value.shape = ir.Shape([None, None])
        body = ir.Graph([old, emitted], [new, copied], nodes=inner.nodes, name=w.name("body"))
        way = int(back)
        attributes = {
            "body": body,
            "num_scan_inputs": 1,
            "scan_input_directions": [way],
            "scan_output_directions": [way],
        }
        return w.ops("Scan", start, self.emitted, outputs=2, attributes=attributes, dtype=FLOAT)[1]

    def _leapt(self, inner: Writer, old: ir.Value, back: bool) -> ir.Value:
        if back:
            return self._moved(inner, inner.op("Add", old, self.leap), 2, back)
        return inner.op("Add", self._moved(inner, old, 2, back), self.leap)

    def _moved(self, inner: Writer, value: ir.Value, by: int, back: bool) -> ir.Value:
        """Return what lies ``by`` places before, or behind."""
        w = self.w
        start, stop = (by, 2**31) if back else (0, -by)
        rest = inner.op("Slice", value, w.ints([start]), w.ints([stop]), w.ints([1]))
        parts = [rest, *[self.column] * by] if back else [*[self.column] * by, rest]
        return inner.op("Concat", *parts, attributes={"axis": 1})
