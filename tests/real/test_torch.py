"""PyTorch's real models come out equal to the ONNX models that their makers exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

SILERO = "real/models/pytorch/silero_vad/silero_vad.jit"


@pytest.mark.parametrize(
    ("part", "samples", "rate"), [("_model", 576, 16000), ("_model_8k", 288, 8000)]
)
def test_silero_equals_its_onnx_sibling(material: Path, part: str, samples: int, rate: int) -> None:
    """The file keeps the state between calls: its two networks take and return it."""
    result = convert(
        material / SILERO,
        part=part,
        inputs=(f"input:float32[batch,{samples}]", "state:float32[2,batch,128]"),
        rename={"output_0": "output", "output_1": "stateN"},
    )
    assert result.artifact.history[0].result["route"] == "legacy"
    assert len(result.artifact.model.graph) <= 60
    sibling = ort.InferenceSession(
        material / "real/models/onnx/silero_vad/silero_vad.onnx", providers=["CPUExecutionProvider"]
    )
    generator = np.random.default_rng(0)
    state = np.zeros((2, 3, 128), np.float32)
    with Session(result.artifact) as session:
        for _ in range(5):  # what one call returns goes into the next
            chunk = generator.standard_normal((3, samples), np.float32) * 0.1
            found = session.run({"input": chunk, "state": state})
            feeds = {"input": chunk, "state": state, "sr": np.array(rate)}
            output, state = sibling.run(None, feeds)
            np.testing.assert_allclose(found["output"], output, atol=1e-6)
            np.testing.assert_allclose(found["stateN"], state, atol=1e-5)


def test_silero_as_a_whole_names_its_parts(
    material: Path, run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    ended = run_cli("convert", material / SILERO, "-o", tmp_path / "vad.onnx")
    assert ended.code == 1
    assert "keeps state between its calls" in ended.err
    assert "--part: _model, _model_8k" in ended.err


# The face detector, written anew from the names and shapes in its files of weights and from its
# ONNX graph: a column of separable convolutions, four heads, boxes relative to fixed priors.


def conv_norm(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


def separable(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False),
        nn.BatchNorm2d(inside),
        nn.ReLU(),
        nn.Conv2d(inside, outside, 1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


def head(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, inside, 3, 1, 1, groups=inside), nn.ReLU(), nn.Conv2d(inside, outside, 1)
    )


class Unit(nn.Module):
    def __init__(
        self, inside: int, outside: int, size: int, dilation: int = 1, *, act: bool = True
    ) -> None:
        super().__init__()
        pad = dilation * (size // 2)
        self.conv = nn.Conv2d(inside, outside, size, padding=pad, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(outside)
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.conv(x))
        return torch.relu(x) if self.act else x


class Receptive(nn.Module):
    """Three branches of growing dilation beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        reduce = [Unit(64, 8, 1, act=False) for _ in range(3)]
        self.branch0 = nn.Sequential(reduce[0], Unit(8, 16, 3), Unit(16, 16, 3, 2, act=False))
        self.branch1 = nn.Sequential(reduce[1], Unit(8, 16, 3), Unit(16, 16, 3, 3, act=False))
        self.branch2 = nn.Sequential(
            reduce[2], Unit(8, 12, 3), Unit(12, 16, 3), Unit(16, 16, 3, 5, act=False)
        )
        self.ConvLinear = Unit(48, 64, 1, act=False)
        self.shortcut = Unit(64, 64, 1, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = torch.cat((self.branch0(x), self.branch1(x), self.branch2(x)), 1)
        return torch.relu(self.ConvLinear(branches) + self.shortcut(x))


class Faces(nn.Module):
    def __init__(self, variant: str) -> None:
        super().__init__()
        eighth = Receptive() if variant == "RFB" else separable(64, 64, 1)
        self.base_net = nn.ModuleList([
            conv_norm(3, 16, 2), separable(16, 32, 1), separable(32, 32, 2), separable(32, 32, 1),
            separable(32, 64, 2), separable(64, 64, 1), separable(64, 64, 1), eighth,
            separable(64, 128, 2), separable(128, 128, 1), separable(128, 128, 1),
            separable(128, 256, 2), separable(256, 256, 1),
        ])  # fmt: skip
        extra = nn.Sequential(
            nn.Conv2d(64, 64, 3, 2, 1, groups=64), nn.ReLU(), nn.Conv2d(64, 256, 1), nn.ReLU()
        )
        self.extras = nn.ModuleList([nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), extra)])
        kinds = ((64, 3), (128, 2), (256, 2))
        self.classification_headers = nn.ModuleList(
            [*(head(i, 2 * n) for i, n in kinds), nn.Conv2d(256, 6, 3, 1, 1)]
        )
        self.regression_headers = nn.ModuleList(
            [*(head(i, 4 * n) for i, n in kinds), nn.Conv2d(256, 12, 3, 1, 1)]
        )
        self.register_buffer("priors", priors(), persistent=False)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        maps, x = [], image
        for index, layer in enumerate(self.base_net):
            x = layer(x)
            if index in (7, 10, 12):
                maps.append(x)
        maps.append(self.extras[0](x))
        scores, places = (
            torch.cat(
                [h(m).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, width))
                 for h, m in zip(heads, maps, strict=True)], 1,
            )
            for heads, width in ((self.classification_headers, 2), (self.regression_headers, 4))
        )  # fmt: skip
        center = places[..., :2] * 0.1 * self.priors[:, 2:] + self.priors[:, :2]
        size = torch.exp(places[..., 2:] * 0.2) * self.priors[:, 2:]
        return {
            "scores": scores.softmax(2),
            "boxes": torch.cat((center - size / 2, center + size / 2), 2),
        }


def priors() -> torch.Tensor:
    """Centers and sizes of the boxes that the heads speak of, in shares of the image."""
    found = []
    for stride, boxes in ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256))):
        width, height = -(-320 // stride), -(-240 // stride)
        for row in range(height):
            for column in range(width):
                place = ((column + 0.5) / width, (row + 0.5) / height)
                found += [(*place, box / 320, box / 240) for box in boxes]
    return torch.tensor(found).clamp(0, 1)


def rfb() -> nn.Module:
    return Faces("RFB")


def slim() -> nn.Module:
    return Faces("slim")


@pytest.mark.parametrize("variant", ["RFB", "slim"])
def test_the_face_detector_equals_its_onnx_sibling(
    material: Path, tmp_path: Path, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the names of a user: ``module:callable --weights FILE``, in a worker."""
    code = Path(__file__).read_text("utf-8").replace("\nimport pytest\n", "\n")
    start, end = code.index("# The face detector"), code.index('@pytest.mark.parametrize("variant"')
    (tmp_path / "faces.py").write_text(f"import torch\nfrom torch import nn\n{code[start:end]}")
    monkeypatch.chdir(tmp_path)
    result = convert(
        f"faces:{variant.lower()}",
        weights=material / f"real/models/pytorch/ultraface/version-{variant}-320.pth",
        inputs=("input:float32[batch,3,240,320]",),
    )
    assert len(result.artifact.history[0].result["weights_digest"]) == 64
    assert max(difference.max_rel for difference in result.parity) < 1e-5
    sibling = Artifact.load(material / f"real/models/onnx/ultraface/version-{variant}-320.onnx")
    assert len(result.artifact.model.graph) < len(sibling.model.graph)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 240, 320)).astype(np.float32)
    with Session(result.artifact) as ours, Session(sibling) as theirs:
        found, expected = ours.run({"input": image}), theirs.run({"input": image})
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=2e-5)
