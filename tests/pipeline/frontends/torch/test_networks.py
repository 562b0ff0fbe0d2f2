"""Networks of the usual kinds come in right, and as graphs of the size that torch promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.torch.frontend import TorchFrontend
from onnxsmith.runtime.session import Session


def normed(inside: int, outside: int, size: int, **options: int) -> nn.Sequential:
    norm = nn.BatchNorm2d(outside)
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    conv = nn.Conv2d(inside, outside, size, padding=size // 2, bias=False, **options)
    return nn.Sequential(conv, norm)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = normed(3, 8, 7, stride=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.first, self.second = normed(8, 16, 3, stride=2), normed(16, 16, 3)
        self.shortcut = normed(8, 16, 1, stride=2)
        self.head = nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.stem(image)))
        x = torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Mobile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.widen, self.deep = normed(3, 12, 1), normed(12, 12, 3, groups=12)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip
        self.narrow = normed(12, 3, 1)
        self.act = nn.Hardswish()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.act(self.deep(self.act(self.widen(image))))
        return image + self.narrow(x * self.squeeze(x))


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.place = nn.Parameter(torch.randn(1, 17, 16))
        self.block = nn.TransformerEncoderLayer(
            16, 4, 32, activation="gelu", batch_first=True, norm_first=True
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.embed(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.place
        return self.head(self.norm(self.block(x))[:, 0])


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 7, num_layers=2, batch_first=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.gru(x)


# The counts are torch's own with its optimizer on: batch norms folded, activations kept whole.
NETWORKS = {
    "residual": (Residual, "image:float32[batch,3,64,64]", 12, {"Conv": 4, "Relu": 3, "Add": 1}),
    "mobile": (Mobile, "image:float32[batch,3,16,16]", 12, {"HardSwish": 2, "HardSigmoid": 1}),
    "patches": (Patches, "image:float32[batch,3,32,32]", 60, {"Gelu": 1, "LayerNormalization": 3}),
    "gated": (Gated, "x:float32[batch,time,5]", 30, {"GRU": 2}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_come_in_right_and_small(name: str) -> None:
    build, spec, most, operators = NETWORKS[name]
    torch.manual_seed(0)
    module = build().eval()
    result = convert(module, inputs=(spec,))
    assert result.artifact.history[0].result["route"] == "dynamo"
    assert max(difference.max_rel for difference in result.parity) < 1e-5
    found = Counter(node.op_type for node in result.artifact.model.graph)
    assert sum(found.values()) <= most
    assert {op: found[op] for op in operators} == operators
    assert not found.keys() & {"Identity", "BatchNormalization", "Dropout", "CastLike"}


VISION = """
import torch

def fake(dets, scores, iou_threshold):
    return dets.new_empty(0)

torch.library.register_fake("torchvision::nms")(fake)
torch.library.register_fake("torchvision::qnms")(fake)

class Net(torch.nn.Linear):
    pass
"""


def test_torchvision_without_its_library_can_be_imported(
    tmp_path: Path, run_python: Callable[..., object]
) -> None:
    """As its CUDA build is beside a CPU build of torch: it registers for what is not declared."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(VISION)
    (tmp_path / "usersnet.py").write_text(
        "import torchvision\ndef build(): return torchvision.Net(3, 2)\n"
    )
    done = run_python(
        "from onnxsmith.pipeline.frontends.torch.frontend import TorchFrontend as T\n"
        "from onnxsmith.pipeline.frontends.base import ConvertRequest as R\n"
        "from onnxsmith.spec import ValueSpec as V\n"
        "import gc, numpy as np\n"
        "s = T().open(R('usersnet:build', inputs=(V('x', 'float32', ('n', 3)),)))\n"
        "gc.collect()\n"
        "import torch; torch.ops.torchvision.nms\n"
        "print(s.reference({'x': np.ones((2, 3), np.float32)})['output'].shape)",
        cwd=tmp_path,
    )
    assert done.stdout == "(2, 2)\n", done.stderr  # type: ignore[attr-defined]


def test_a_part_of_a_module_is_taken(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
    result = convert(module, part="1", inputs=("x:float32[batch,3]",))
    assert [node.op_type for node in result.artifact.model.graph] == ["Gemm", "Relu"]
    with pytest.raises(SmithError, match="no part 'nix'"):
        TorchFrontend().adopt(module, ConvertRequest("net:build", part="nix"))


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3000, 2100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.inner.weight.T


def test_large_weights_go_to_a_file_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Rows()
    path = "onnxsmith.pipeline.frontends.torch.routes"
    monkeypatch.setattr(f"{path}._EXTERNAL_BYTES", 1 << 20)
    monkeypatch.setattr(f"{path}._PIECE_BYTES", 1 << 16)
    result = convert(module, inputs=("x:float32[batch,3000]",))
    result.artifact.save(tmp_path / "rows.onnx")
    (data,) = tmp_path.glob("rows.*.data")
    assert data.stat().st_size >= 3000 * 2100 * 4
    x = torch.randn(3, 3000)
    with Session(result.artifact) as session:
        found = session.run({"x": x.numpy()})["output"]
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-4)
