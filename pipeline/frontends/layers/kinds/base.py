"""What all layers have in common."""

from __future__ import annotations

import abc
from typing import ClassVar

import onnx_ir as ir
from pydantic import BaseModel, ConfigDict, Field

from onnxsmith.pipeline.frontends.layers.scope import Scope, Size, in_words, sizes_of

FLOAT = ir.DataType.FLOAT


class Layer(BaseModel, abc.ABC):
    """One layer.

    Class attributes:
        most: How many inputs it takes at most; all of them in one shape are checked by the layer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    least: ClassVar[int] = 1
    most: ClassVar[int] = 1

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.-]*$",
        max_length=100,
        description="What its weights are named after; the kind and a number where omitted.",
    )
    inputs: tuple[str, ...] = Field(
        (), description="Names of layers or inputs it reads; the layer before it where omitted."
    )

    @abc.abstractmethod
    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write the layer's nodes and return what it gives, with its sizes.

        Raises:
            SmithError: It does not fit what it is given.
        """


def features(scope: Scope, value: ir.Value, ranks: tuple[int, ...], what: str) -> int:
    """Return the last size of a value.

    Args:
        scope: The layer.
        value: Its input.
        ranks: How many dimensions it may have.
        what: What the layer takes, in words.

    Raises:
        SmithError: It has another rank, is no float, or the size is not known.
    """
    sizes = check_rank(scope, value, ranks, what)
    return known(scope, sizes[-1], "the number of features")


def check_rank(
    scope: Scope, value: ir.Value, ranks: tuple[int, ...], what: str
) -> tuple[Size, ...]:
    """Return the sizes of a value.

    Raises:
        SmithError: It has another rank, or is no float.
    """
    sizes = sizes_of(value)
    if len(sizes) not in ranks or value.dtype != FLOAT:
        kind = "" if value.dtype == FLOAT else f" of {str(value.dtype).lower()}"
        hint = "put a flatten layer before it" if len(sizes) > max(ranks) else "see docs/train.md"
        raise scope.refuse(f"takes {what}, but gets {in_words(value)}{kind}", hint)
    return sizes


def known(scope: Scope, size: Size, what: str) -> int:
    """Return a size that has to be known.

    Raises:
        SmithError: It is not.
    """
    if isinstance(size, str):
        raise scope.refuse(
            f"needs {what}, which is the open size {size!r}", "give the input a fixed size there"
        )
    return size
