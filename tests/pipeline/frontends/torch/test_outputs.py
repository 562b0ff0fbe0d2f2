"""Outputs take the names that the module gives them; inputs those of its forward."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.torch.frontend import TorchFrontend
from onnxsmith.pipeline.frontends.torch.outputs import flat_outputs, name_outputs, tensor_leaves
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ValueSpec

Boxes = collections.namedtuple("Boxes", ["corners", "scores"])


@dataclass
class Result:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]
    loss: torch.Tensor | None = None


def t() -> torch.Tensor:
    return torch.ones(1)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (t(), ("output",)),
        ([t()], ("output",)),
        ((t(), (t(), t())), ("output_0", "output_1", "output_2")),
        ((t(), None, t()), ("output_0", "output_1")),
        ({"logits": t(), "mask": None}, ("logits",)),
        (Boxes(t(), t()), ("corners", "scores")),
        ((t(), Boxes(t(), t())), ("output_0", "corners", "scores")),
        (Result(t(), (t(), t())), ("logits", "hidden_0", "hidden_1")),
        (collections.OrderedDict(x=t(), y=t()), ("x_out", "y")),
        ({"a": {"b": t()}, "c": {"b": t()}}, ("b", "b_out")),
    ],
)
def test_outputs_have_the_names_of_their_keys(value: Any, names: tuple[str, ...]) -> None:
    assert name_outputs(value, ("x",)) == names
    assert len(tensor_leaves(value)) == len(names)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"n": 3}, "returns a int, not only tensors"),
        ((), "returns no tensor"),
        (torch.ones(1, dtype=torch.complex64), "runtimes have no complex numbers"),
    ],
)
def test_other_outputs_are_refused(value: Any, message: str) -> None:
    with pytest.raises(SmithError, match=message):
        name_outputs(value, ())


def test_outputs_are_flat_for_the_moment_only() -> None:
    module = nn.Identity()
    with flat_outputs(module):
        assert isinstance(module(t()), tuple)
    assert isinstance(module(t()), torch.Tensor)
    assert "forward" not in vars(module)


class Named(nn.Module):
    """A dataclass with None parts, an input that is changed in place, and one that is an output."""

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> Result:
        x.add_(1)
        y = x * scale
        return Result(y, (y + 1, scale))


def test_a_dataclass_comes_in_with_its_fields_names() -> None:
    result = convert(
        Named(),
        inputs=("x:float32[batch,3]", "scale:float32[batch,3]"),
    )
    spec = result.artifact.spec
    assert [value.name for value in spec.inputs] == ["x", "scale"]
    assert [value.name for value in spec.outputs] == ["logits", "hidden_0", "hidden_1"]
    x, scale = torch.randn(4, 3), torch.randn(4, 3)
    with Session(result.artifact) as session:
        found = session.run({"x": x.numpy(), "scale": scale.numpy()})
    assert torch.allclose(torch.from_numpy(found["logits"]), (x + 1) * scale)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_precisions_keep_theirs(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    result = convert(nn.Linear(4, 3).to(dtype), inputs=(f"x:{name}[batch,4]",))
    assert result.artifact.spec.outputs[0].dtype == name


def test_bfloat16_comes_in_unverified_where_the_runtime_lacks_it() -> None:
    result = convert(
        nn.Linear(4, 3).to(torch.bfloat16), inputs=("x:bfloat16[batch,4]",), verify=False
    )
    assert result.artifact.spec.outputs[0].dtype == "bfloat16"


def opened(module: nn.Module, *inputs: str) -> Any:
    specs = tuple(map(ValueSpec.parse, inputs))
    return TorchFrontend().adopt(module, ConvertRequest("net:build", inputs=specs))


def test_layers_left_in_training_mode_are_told() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    (warning,) = opened(module, "x:float32[batch,3]").warnings
    assert warning == (
        "the module was in training mode: BatchNorm1d and Dropout are exported for inference"
    )
    assert opened(module.eval(), "x:float32[batch,3]").warnings == ()


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("build", "inputs", "kind", "message"),
    [
        (on_meta, ("x:float32[batch,3]",), SmithError, "lies on the meta device"),
        (
            lambda: nn.Linear(3, 3),
            ("x:complex64[batch,3]",),
            UsageError,
            "no complex numbers",
        ),
    ],
)
def test_what_cannot_run_is_refused(
    build: Callable[[], nn.Module], inputs: tuple[str, ...], kind: type[SmithError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        opened(build(), *inputs)


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def test_a_module_that_draws_numbers_is_told(tmp_path: Path) -> None:
    export = opened(Noisy(), "x:float32[batch,3]").export(tmp_path)
    assert "draws random numbers" in export.warnings[0]
