"""What an adapter is, and its file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.match import is_op
from onnxsmith.storage.atomic import replacing

Array = np.ndarray[Any, Any]

FIRST, SECOND = "lora_a", "lora_b"


@dataclass(frozen=True)
class Adapter:
    """Low-rank changes of weights.

    Attributes:
        scale: Factor of all changes: ``alpha / rank``.
        factors: Weight to the two factors in the order that the input meets them: ``[in, rank]``
            and ``[rank, out]`` of a matrix, ``[rank, in, *kernel]`` and ``[out, rank, 1, ...]`` of
            a convolution.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2022).
    """

    scale: float
    factors: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the adapter as an ``.npz`` file: ``NAME.lora_a``, ``NAME.lora_b`` and ``scale``.

        Raises:
            SmithError: The file cannot be written.
        """
        arrays = {"scale": np.array(self.scale, np.float64)}
        for name, (first, second) in self.factors.items():
            arrays |= {f"{name}.{FIRST}": first, f"{name}.{SECOND}": second}
        with replacing(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # names are the model's own

    @classmethod
    def load(cls, path: Path) -> Adapter:
        """Read an adapter.

        Raises:
            SmithError: The file is missing, damaged or no adapter.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = dict(stored)
            scale = float(arrays.pop("scale"))
            names = sorted({name.rpartition(".")[0] for name in arrays})
            factors = {n: (arrays[f"{n}.{FIRST}"], arrays[f"{n}.{SECOND}"]) for n in names}
        except FileNotFoundError as error:
            raise SmithError(f"there is no file {path}", "check the path") from error
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise SmithError(
                f"{path} is no adapter, or damaged", "give what 'onnxsmith train --adapter' wrote"
            ) from error
        return cls(scale, factors)

    def merge(self, model: ir.Model) -> None:
        """Add the changes to the weights of a model, which is edited.

        Raises:
            SmithError: A weight is missing, or of another shape than the factors are for.
        """
        for name, (first, second) in self.factors.items():
            value = model.graph.initializers.get(name)
            if value is None or value.const_value is None:
                raise SmithError(
                    f"the model has no weight {name!r}, which the adapter changes",
                    "give the model that the adapter was trained on",
                )
            weight = value.const_value.numpy()
            change = self.scale * _product(first, second, turned=_is_turned(value))
            if change.shape != weight.shape:
                raise SmithError(
                    f"the adapter changes a {name!r} of shape {list(change.shape)}, not of "
                    f"{list(weight.shape)}",
                    "give the model that the adapter was trained on",
                )
            merged = (weight.astype(np.float64) + change).astype(weight.dtype)
            value.const_value = ir.Tensor(merged, name=name)


def _product(first: Array, second: Array, turned: bool) -> Array:
    """Return the change of a weight without its factor, float64."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    if first.ndim > 2:
        flat = second.reshape(len(second), -1) @ first.reshape(len(first), -1)
        return np.asarray(flat.reshape(len(second), *first.shape[1:]))
    product: Array = first @ second
    return product.T if turned else product


def _is_turned(weight: ir.Value) -> bool:
    """Tell whether a weight is ``[out, in]``: a Gemm that transposes it reads it."""
    return any(
        is_op(use.node, "Gemm") and use.idx == 1 and use.node.attributes.get_int("transB", 0)
        for use in weight.uses()
    )
