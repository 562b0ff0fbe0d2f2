"""Real architectures with random weights, as torch.onnx writes them without any optimization.

``python benchmarks/sources/architectures.py FOLDER [NAME ...]`` writes ``FOLDER/NAME.onnx``. It
needs torch, torchvision (its wheel without its dependencies) and transformers.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

# torchvision's wheel for another build of torch registers kernels of these without declaring them.
_LIBRARY = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

TOKENS = 128
Case = tuple[nn.Module, tuple[torch.Tensor, ...], list[str]]


def _vision(name: str) -> Case:
    from torchvision import models

    network = getattr(models, name)(weights=None).eval()
    if name == "mobilenet_v2":
        _keep_size(network, torch.randn(8, 3, 224, 224))
    return network, (torch.randn(1, 3, 224, 224),), ["image"]


def _keep_size(network: nn.Module, images: torch.Tensor) -> None:
    """Let batch normalizations divide by the root mean square of what they read, as if trained.

    Those of a new network change nothing, and values fade from layer to layer: MobileNetV2's
    outputs are near 1e-10 then, which NNCF rounds to 0: it takes no range for less than 8e-5. Means
    are left in: without them a network of random weights would magnify every error. The gates of
    EfficientNet magnify errors even so, so that it stays as it is made.
    """

    def measure(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        module.running_var.fill_(inputs[0].square().mean())

    found = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [module.register_forward_pre_hook(measure) for module in found]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()


class _Only(nn.Module):
    """A language model that returns its first output alone, and keeps no cache."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        options: dict[str, Any] = {"attention_mask": attention_mask, "return_dict": False}
        if getattr(self.model.config, "use_cache", False):
            options["use_cache"] = False
        return self.model(input_ids, **options)[0]


def _language(model: nn.Module) -> Case:
    ids = torch.randint(0, 1000, (1, TOKENS))
    return _Only(model.eval()), (ids, torch.ones_like(ids)), ["input_ids", "attention_mask"]


def bert() -> Case:
    """Return BERT-base."""
    from transformers import BertConfig, BertModel

    return _language(BertModel(BertConfig(attn_implementation="sdpa")))


def gpt2() -> Case:
    """Return GPT-2 of 12 layers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return _language(GPT2LMHeadModel(GPT2Config(attn_implementation="sdpa")))


def llama() -> Case:
    """Return a decoder like Llama of 12 layers of width 1024, 16 heads, 4 of them for keys."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=4,
        vocab_size=16000,
        attn_implementation="sdpa",
    )
    return _language(LlamaForCausalLM(config))


class _Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10000, 128)
        self.lstm = nn.LSTM(128, 256, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(512, 20)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embed(tokens))[0])


def lstm() -> Case:
    """Return a tagger with two bidirectional LSTM layers."""
    return _Tagger().eval(), (torch.randint(0, 1000, (1, 64)),), ["tokens"]


class _ConvAct(nn.Sequential):
    def __init__(self, inner: int, outer: int, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inner, outer, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outer),
            nn.SiLU(),
        )


class _Stage(nn.Module):
    """A cross-stage partial stage: half of the channels go through residual blocks."""

    def __init__(self, inner: int, outer: int, blocks: int) -> None:
        super().__init__()
        half = outer // 2
        self.down = _ConvAct(inner, outer, stride=2)
        self.split = _ConvAct(outer, outer, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(_ConvAct(half, half), _ConvAct(half, half)) for _ in range(blocks)
        )
        self.merge = _ConvAct(outer, outer, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, worked = self.split(self.down(x)).chunk(2, 1)
        for block in self.blocks:
            worked = worked + block(worked)
        return self.merge(torch.cat([kept, worked], 1))


class _Detector(nn.Module):
    """A detector like YOLO: backbone, pyramid, and boxes decoded from distributions."""

    def __init__(self, classes: int = 80, bins: int = 16) -> None:
        super().__init__()
        self.classes, self.bins = classes, bins
        self.stem = _ConvAct(3, 16, stride=2)
        self.stages = nn.ModuleList(
            [_Stage(16, 32, 1), _Stage(32, 64, 2), _Stage(64, 128, 2), _Stage(128, 256, 1)]
        )
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.p4, self.p3 = _ConvAct(384, 128, 1), _ConvAct(192, 64, 1)
        self.heads = nn.ModuleList(nn.Conv2d(c, 4 * bins + classes, 1) for c in (64, 128, 256))
        self.register_buffer("bin", torch.arange(bins).float())

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = []
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        p5 = found[3]
        p4 = self.p4(torch.cat([self.up(p5), found[2]], 1))
        p3 = self.p3(torch.cat([self.up(p4), found[1]], 1))
        boxes, scores = [], []
        for head, level, stride in zip(self.heads, (p3, p4, p5), (8, 16, 32), strict=True):
            out = head(level)
            batch, _, height, width = out.shape
            flat = out.reshape(batch, -1, height * width)
            places, classes = flat.split([4 * self.bins, self.classes], 1)
            places = places.reshape(batch, 4, self.bins, -1).softmax(2)
            sides = (places * self.bin[None, None, :, None]).sum(2)
            rows = torch.arange(height, device=out.device).float() + 0.5
            columns = torch.arange(width, device=out.device).float() + 0.5
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            center = torch.stack([x, y]).reshape(1, 2, -1)
            low, high = center - sides[:, :2], center + sides[:, 2:]
            boxes.append(torch.cat([(low + high) / 2, high - low], 1) * stride)
            scores.append(classes.sigmoid())
        return torch.cat(boxes, 2), torch.cat(scores, 2)


def detector() -> Case:
    """Return a detector like YOLO of three scales."""
    return _Detector().eval(), (torch.randn(1, 3, 320, 320),), ["image"]


CASES: dict[str, Callable[[], Case]] = {
    "resnet50": lambda: _vision("resnet50"),
    "mobilenet_v2": lambda: _vision("mobilenet_v2"),
    "efficientnet_b0": lambda: _vision("efficientnet_b0"),
    "convnext_tiny": lambda: _vision("convnext_tiny"),
    "swin_t": lambda: _vision("swin_t"),
    "vit_b_16": lambda: _vision("vit_b_16"),
    "bert": bert,
    "gpt2": gpt2,
    "llama": llama,
    "lstm": lstm,
    "detector": detector,
}


def write(name: str, folder: Path) -> None:
    """Export one architecture as ``folder/NAME.onnx``, batch open, weights embedded."""
    torch.manual_seed(0)
    module, example, names = CASES[name]()
    batch = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(torch.cat([tensor, tensor]) for tensor in example),
            folder / f"{name}.onnx",
            input_names=names,
            dynamo=True,
            optimize=False,
            opset_version=20,
            external_data=False,
            verbose=False,
            dynamic_shapes=[{0: batch} for _ in example],
        )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for chosen in sys.argv[2:] or CASES:
        write(chosen, target)
        print(chosen, (target / f"{chosen}.onnx").stat().st_size >> 20, "MiB", flush=True)
