"""PyTorch modules come in right at every size, or not at all."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onnxsmith.errors import RefusedError, SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import ConvertResult, convert
from onnxsmith.runtime.session import Session


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        sequence, (hidden, _) = self.lstm(x)
        return {"sequence": sequence, "hidden": hidden}


class Tied(nn.Module):
    """Two inputs given out of order, and one table used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(200, 96)
        self.head = nn.Linear(96, 200, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(ids) * mask[..., None])


class Frozen(nn.Module):
    """A branch that the exporter does not see: the graph is right up to four samples only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_exporting() and x.shape[0] > 4:
            return x * 2
        return x + 1


class Valued(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Poisoned(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(-x.abs() - 1)


@pytest.fixture(scope="module")
def recurrent() -> tuple[nn.Module, ConvertResult]:
    torch.manual_seed(0)
    module = Recurrent()
    return module, convert(module, inputs=("x:float32[batch,time,4]",))


def test_a_recurrent_net_keeps_its_open_dimensions(recurrent: Any) -> None:
    """torch's exporter declares the time of the output fixed: that is mended."""
    spec = recurrent[1].artifact.spec
    assert spec.input("x").shape == ("batch", "time", 4)
    assert spec.output("sequence").shape == ("batch", "time", 12)
    assert spec.output("hidden").shape == (2, "batch", 6)


@pytest.mark.parametrize("shape", [(1, 1, 4), (7, 23, 4)])
def test_a_recurrent_net_agrees_at_sizes_that_were_never_probed(
    recurrent: Any, shape: tuple[int, ...]
) -> None:
    module, result = recurrent
    x = torch.randn(shape)
    with torch.no_grad():
        expected = module(x)
    with Session(result.artifact, optimize=False) as session:
        actual = session.run({"x": x.numpy()})
    for name, tensor in expected.items():
        np.testing.assert_allclose(actual[name], tensor.numpy(), atol=2e-6)


def test_history_tells_versions_and_parity_but_no_paths(recurrent: Any) -> None:
    source, parity = recurrent[1].artifact.history
    assert (source.name, source.kind) == ("torch", "source")
    assert source.result["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert source.result["route"] == "dynamo"
    assert parity.kind == "parity"
    assert parity.result["max_rel"] < 1e-5
    shapes = [tuple(probe["x"][:2]) for probe in parity.result["shapes"]]
    assert len(set(shapes)) == 4  # the example's, two larger ones and a single sample
    assert {size for size, _ in shapes} == {2, 3, 5, 1}


def test_tied_weights_stay_one_and_inputs_keep_their_order() -> None:
    result = convert(
        Tied(),
        inputs=("mask:float32[batch,length]", "ids:int64[batch,length]"),
        rename={"output": "logits", "ids": "tokens", "length": "time"},
    )
    artifact = result.artifact
    assert [value.name for value in artifact.spec.inputs] == ["mask", "tokens"]
    assert artifact.spec.output("logits").shape == ("batch", "time", 200)
    assert artifact.size_bytes < 1.5 * 200 * 96 * 4
    assert [difference.output for difference in result.parity] == ["logits"]


def test_the_weights_outlive_the_result(tmp_path: Path) -> None:
    """They lie in a temporary folder that must live as long as the artifact's tensors."""
    artifact = convert(nn.Linear(200, 200), inputs=("x:float32[batch,200]",)).artifact.clone()
    artifact.save(tmp_path / "linear.onnx")
    assert (tmp_path / "linear.onnx").stat().st_size > 200 * 200 * 4
    held = {Path(v.const_value.path).parent for v in artifact.model.graph.initializers.values()
            if hasattr(v.const_value, "path")}  # fmt: skip
    del artifact
    gc.collect()
    assert held
    assert not any(folder.exists() for folder in held)


def test_a_graph_frozen_at_one_size_is_refused() -> None:
    with pytest.raises(RefusedError, match="does not compute what its source does") as caught:
        convert(Frozen(), inputs=("x:float32[batch,3]",))
    assert "--no-verify" in caught.value.hint


def test_without_verification_there_is_a_warning() -> None:
    result = convert(Frozen(), inputs=("x:float32[batch,3]",), verify=False)
    assert result.parity == ()
    assert "not compared" in result.warnings[-1]


def test_a_branch_on_values_is_explained() -> None:
    with pytest.raises(SmithError, match="torch cannot export") as caught:
        convert(Valued(), inputs=("x:float32[batch,3]",))
    assert "torch.cond" in caught.value.hint


def test_nan_of_the_source_is_reported() -> None:
    result = convert(Poisoned(), inputs=("x:float32[batch,3]",))
    assert any("NaN" in warning and "'output'" in warning for warning in result.warnings)


def test_a_dimension_that_the_model_fixes_is_explained() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(2, 4)

    with pytest.raises(SmithError, match="'batch' of the input 'x' came out fixed at 2") as caught:
        convert(Fixed(), inputs=("x:float32[batch,4]",))
    assert "write that size" in caught.value.hint


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "are not known"),
        (("x:float99[batch,4]",), "no element type 'float99'"),
        (("x:float32[batch size,4]",), "no name for a dimension"),
        (("x:float32[?,4]",), "not complete"),
        (("x:float32[batch,5]",), "running the module on inputs of shape \\[2, 5\\] failed"),
        (("x:float32[batch,4]", "y:float32[4]"), "failed: TypeError"),
    ],
)
def test_wrong_inputs_are_named(inputs: tuple[str, ...], message: str) -> None:
    with pytest.raises(SmithError, match=message):
        convert(nn.Linear(4, 2), inputs=inputs)


def test_example_sizes_below_two_are_refused() -> None:
    with pytest.raises(UsageError, match="too small"):
        convert(nn.Linear(4, 2), inputs=("x:float32[batch,4]",), dims={"batch": 1})


def test_a_program_file_comes_in_with_readable_dimensions(tmp_path: Path) -> None:
    dims = ({0: torch.export.Dim("anything")},)
    program = torch.export.export(nn.Linear(4, 2), (torch.ones(3, 4),), dynamic_shapes=dims)
    torch.export.save(program, tmp_path / "linear.pt2")
    result = convert(tmp_path / "linear.pt2")
    (value,) = result.artifact.spec.inputs
    assert value.shape == ("batch", 4)
    assert result.artifact.spec.outputs[0].shape == ("batch", 2)
    assert len(result.artifact.history[0].result["digest"]) == 64
    assert result.artifact.history[0].options["source"] == "linear.pt2"


def test_a_damaged_program_is_named(tmp_path: Path) -> None:
    from onnxsmith.pipeline.frontends.base import ConvertRequest
    from onnxsmith.pipeline.frontends.torch.program import load_program

    (tmp_path / "broken.pt2").write_bytes(b"PK\x03\x04 no program")
    with pytest.raises(SmithError, match=r"not a program of torch\.export"):
        load_program(ConvertRequest(str(tmp_path / "broken.pt2")))


def test_a_program_with_a_pickled_object_needs_trust(tmp_path: Path) -> None:
    from onnxsmith.pipeline.frontends.base import ConvertRequest
    from onnxsmith.pipeline.frontends.torch.program import load_program

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "was-run",)

    program = torch.export.export(nn.Linear(2, 2), (torch.ones(3, 2),))
    hostile = copy.copy(program)
    hostile._example_inputs = ((Evil(),), {})
    torch.export.save(hostile, tmp_path / "evil.pt2")
    with pytest.raises(SmithError, match="runs code when it is loaded") as caught:
        load_program(ConvertRequest(str(tmp_path / "evil.pt2")))
    assert "--trust" in caught.value.hint
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))",
        "FloorDiv(Symbol('s0'), Integer(4))",
        "Float('0.5', precision=53)",
        "2*s77 + Max(1, s0)",
    ],
)
def test_sizes_that_torch_writes_are_read(text: str) -> None:
    from onnxsmith.pipeline.frontends.torch.safe import is_size

    assert is_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "s0.__class__",
        "open('x')",
        "Add('open(1)', 1)",
        "Symbol('a b')",
        "Symbol(name='open(1)')",
        "[1]",
        "(lambda: 1)()",
        "f'{open(1)}'",
        "Max(*[1])",
        "1 +",
    ],
)
def test_an_expression_that_is_no_size_is_not_evaluated(text: str) -> None:
    import sympy

    from onnxsmith.pipeline.frontends.torch.safe import RunsCodeError, without_code

    with pytest.raises(RunsCodeError), without_code():
        sympy.sympify(text)
