"""What a loss is: operators that make one number of an output and its target."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.passes.match import made_by

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Target:
    """What a loss compares with: the type and shape of the labels."""

    dtype: ir.DataType
    shape: ir.Shape | None


@dataclass(frozen=True)
class Loss(abc.ABC):
    """Writes itself behind a model; its dataclass fields are its options.

    Class attributes:
        reads: The activation whose input the loss reads in the place of its output, which would
            lose precision: ``Softmax`` for scores, ``Sigmoid`` for single decisions.
    """

    reads: ClassVar[str | None] = None

    def target(self, output: ir.Value) -> Target:
        """Return what the labels of an output look like: by default just as the output."""
        assert output.dtype is not None  # attach_loss() checked
        return Target(output.dtype, output.shape)

    @property
    def separable(self) -> bool:
        """Whether it is the mean over samples of a loss of each alone."""
        return True

    @property
    def ignored(self) -> int | None:
        """The label that is none of the classes and does not count, None where there is none."""
        return None

    @abc.abstractmethod
    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the loss, a scalar: a mean over the batch.

        Raises:
            SmithError: The output's shape does not fit.
        """

    def scores_of(self, output: ir.Value) -> ir.Value:
        """Return what the loss is computed from: what an activation was applied to, if any was."""
        node = made_by(output, self.reads) if self.reads else None
        return output if node is None or node.inputs[0] is None else node.inputs[0]


def mean(w: Writer, value: ir.Value) -> ir.Value:
    """Return the mean of all elements, a scalar."""
    return w.op("ReduceMean", value, attributes={"keepdims": 0})


def class_axis(output: ir.Value) -> int:
    """Return the axis of the classes: the last of ``[N, C]`` and ``[N, L, C]``, else the second.

    Raises:
        SmithError: The output is no batch of scores.
    """
    rank = None if output.shape is None else len(output.shape)
    if rank is None or rank < 2:
        raise SmithError(
            f"the output {output.name!r} is no batch of class scores",
            "choose another --loss, or name the output with --output-name",
        )
    return rank - 1 if rank <= 3 else 1
