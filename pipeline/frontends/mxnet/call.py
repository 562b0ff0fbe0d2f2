"""What an operator's importer works with: one node of MXNet, its inputs in ONNX, and the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.mxnet.attributes import Attributes
from onnxsmith.pipeline.frontends.mxnet.graph import Dim, Graph, dims_of
from onnxsmith.pipeline.frontends.mxnet.params import StoredArray
from onnxsmith.pipeline.frontends.mxnet.symbol import Node


class SizesNeededError(SmithError):
    """The import needs a size that the inputs leave open, or one that they give wrongly.

    Args:
        message: One line: what is wrong.
        hint: One line: how to mend it.
        found: The number of features that the given sizes make, where that is what is wrong.
        wanted: The number that the weights ask for.
    """

    def __init__(
        self, message: str, hint: str, found: int | None = None, wanted: int | None = None
    ) -> None:
        super().__init__(message, hint)
        self.found = found
        self.wanted = wanted


@dataclass(frozen=True)
class Call:
    """One node that is being imported.

    Attributes:
        node: The node.
        attrs: Its attributes.
        inputs: Its inputs; those that the operator does not ask for are None.
        graph: Where nodes are added.
        flat: Returns the stored arrays that make up input number N when they are flattened and
            joined.
        outputs: Which of its outputs are used.
    """

    node: Node
    attrs: Attributes
    inputs: tuple[ir.Value | None, ...]
    graph: Graph
    flat: Callable[[int], list[StoredArray]]
    outputs: frozenset[int] = frozenset({0})

    def __getitem__(self, number: int) -> ir.Value:
        """Return input ``number``.

        Raises:
            SmithError: The node does not have that many.
        """
        value = self.inputs[number] if number < len(self.inputs) else None
        if value is None:
            raise self.error(f"its input {number} is missing")
        return value

    def dims(self, number: int = 0) -> list[Dim]:
        """Return the dimensions of input ``number``."""
        return dims_of(self[number])

    def rank(self, number: int = 0) -> int:
        """Return the number of dimensions of input ``number``."""
        return len(self.dims(number))

    def axis(self, name: str, default: int, rank: int | None = None) -> int:
        """Return an axis attribute as a number from 0.

        Raises:
            SmithError: There is no such axis.
        """
        rank = self.rank() if rank is None else rank
        return self.normal(self.attrs.integer(name, default), rank)

    def normal(self, axis: int, rank: int) -> int:
        """Return an axis counted from the front.

        Raises:
            SmithError: There is no such axis.
        """
        if not -rank <= axis < rank:
            raise self.error(f"there is no axis {axis} among {rank}")
        return axis % rank

    def size(self, axis: int, number: int = 0) -> int:
        """Return the size of an axis, which the import cannot do without.

        Raises:
            SizesNeededError: It is open, or there is no such axis.
        """
        dims = self.dims(number)
        if axis >= len(dims):
            raise SizesNeededError(
                f"{self.node} needs axis {axis} of an input that has {len(dims)} in all",
                "check the sizes in --input",
            )
        dim = dims[axis]
        if not isinstance(dim, int):
            raise self.sizes_needed(f"the size of axis {axis} of its input")
        return dim

    def stored(self, number: int) -> np.ndarray:
        """Return the values of an input that is a weight or a constant.

        Raises:
            SmithError: It is computed.
        """
        tensor = self[number].const_value
        if tensor is None:
            raise self.error(f"its input {number} must be a weight, not a computed value")
        return tensor.numpy()

    def error(self, message: str, hint: str = "") -> SmithError:
        """Return an error that names the node."""
        return self.attrs.error(message, hint)

    def refuse(self, what: str) -> SmithError:
        """Return an error that says what has no counterpart in ONNX."""
        return self.error(
            f"{what} cannot be imported", "replace it in the model, and export that again"
        )

    def sizes_needed(self, what: str) -> SizesNeededError:
        """Return an error that asks for sizes in ``--input``."""
        return SizesNeededError(
            f"{self.node} needs {what}, which the inputs leave open",
            "give the inputs' sizes with --input",
        )


def _never(attrs: Mapping[str, str]) -> bool:
    return False


Values = ir.Value | Sequence[ir.Value]


@dataclass(frozen=True)
class Operator:
    """How one operator of MXNet is imported.

    Attributes:
        convert: Adds nodes, and returns the outputs.
        inputs: Names of the inputs where MXNet makes up variables for them.
        weights: Which of those (by number) must be in the file of weights.
        unused: Which inputs inference does not need: labels, and flat weights that are cut up.
        outputs: Names of the outputs where they are not just numbered.
        numbered: Whether even a single output has a number, by the node's attributes.
    """

    convert: Callable[[Call], Values]
    inputs: tuple[str, ...] = ()
    weights: frozenset[int] = frozenset()
    unused: frozenset[int] = frozenset()
    outputs: tuple[str, ...] = ()
    numbered: Callable[[Mapping[str, str]], bool] = _never


Family = Mapping[str, Operator]
