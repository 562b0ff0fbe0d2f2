"""Networks in PyTorch whose gradients are compared.

torchvision's and transformers' own are built by :func:`of_torchvision` and :func:`of_transformers`,
the others stand here, small enough for a test.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

Case = tuple[nn.Module, torch.Tensor]
"""A network and what it is given."""


class _Unet(nn.Module):
    """Encoder and decoder with skips: transposed convolution, and interpolation."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.one, self.two = self.block(3, width), self.block(width, 2 * width)
        self.deep = self.block(2 * width, 4 * width)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.three, self.four = self.block(4 * width, 2 * width), self.block(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def block(inner: int, outer: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.one(x)
        second = self.two(functional.max_pool2d(first, 2))
        deep = self.deep(functional.max_pool2d(second, 2))
        back = self.three(torch.cat([self.up(deep), second], 1))
        wide = functional.interpolate(back, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.head(self.four(torch.cat([wide, first], 1))).flatten(2).mean(2)


class _Classifier(nn.Module):
    """A residual, an inverted residual and a dense block, each with batch normalization."""

    def __init__(self, width: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(4))
        self.one = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.two = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.inverted = nn.Sequential(
            nn.Conv2d(width, 3 * width, 1, bias=False), nn.BatchNorm2d(3 * width), nn.ReLU6(),
            nn.Conv2d(3 * width, 3 * width, 3, 1, 1, groups=3 * width, bias=False),
            nn.BatchNorm2d(3 * width), nn.ReLU6(), nn.Conv2d(3 * width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )  # fmt: skip
        self.dense = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.transition = nn.Conv2d(2 * width, width, 1, bias=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.norms[0](self.stem(x)).relu(), 3, 2, 1)
        x = (x + self.two(self.norms[1](self.one(x)).relu())).relu()
        x = x + self.inverted(x)
        x = torch.cat([x, self.dense(self.norms[2](x).relu())], 1)
        x = functional.avg_pool2d(self.transition(x), 2)
        return self.head(functional.adaptive_avg_pool2d(self.norms[3](x).relu(), 1).flatten(1))


class _Recurrent(nn.Module):
    """A classifier of sequences: embedding, two bidirectional LSTM layers."""

    def __init__(self, words: int = 50, width: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, 12, num_layers=2, bidirectional=True)
        self.head = nn.Linear(24, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        found, _ = self.lstm(self.embed(tokens).transpose(0, 1))
        return self.head(found.mean(0))


class _Block(nn.Module):
    """A transformer block with the norm first."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, steps, width = x.shape
        parts = self.qkv(self.first(x)).reshape(batch, steps, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
        if self.causal:
            mask = torch.ones(steps, steps, dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(mask, float("-inf"))
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, steps, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.second(x))


class _Vision(nn.Module):
    """A vision transformer: patches, a class token, learned places."""

    def __init__(self, size: int = 16, width: int = 24, classes: int = 5, depth: int = 2) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.place = nn.Parameter(torch.randn(1, (size // 4) ** 2 + 1, width) * 0.1)
        self.blocks = nn.Sequential(*(_Block(width, 3, causal=False) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        token = self.token.expand(x.shape[0], -1, -1)
        found = self.blocks(torch.cat([token, patches], 1) + self.place)
        return self.head(self.norm(found)[:, 0])


class _Decoder(nn.Module):
    """A causal language model whose head is its embedding."""

    def __init__(self, words: int = 40, width: int = 24, steps: int = 12, depth: int = 2) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(words, width), nn.Embedding(steps, width)
        self.blocks = nn.Sequential(*(_Block(width, 3, causal=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        found = self.norm(self.blocks(self.embed(tokens) + self.place(places)))
        return (found @ self.embed.weight.T).flatten(0, 1)


def small(name: str, seed: int = 0) -> Case:
    """Return one of the networks that stand here."""
    torch.manual_seed(seed)
    images, tokens = torch.randn(4, 3, 16, 16), torch.randint(0, 40, (4, 12))
    made: dict[str, Callable[[], Case]] = {
        "cnn": lambda: (_Classifier(), torch.randn(8, 3, 32, 32)),
        "unet": lambda: (_Unet(), images),
        "lstm": lambda: (_Recurrent(), tokens),
        "vit": lambda: (_Vision(), images),
        "decoder": lambda: (_Decoder(), tokens),
    }
    return made[name]()


def of_torchvision(name: str, seed: int = 0) -> Case:
    """Return a classifier of torchvision with random weights, without dropout.

    ``NAME with SiLU`` has smooth activations instead of those with a corner.
    """
    name, _, smooth = name.partition(" with ")
    declare_detection_operators()
    from torchvision import models

    torch.manual_seed(seed)
    network = getattr(models, name)(weights=None, num_classes=10)
    for part in list(network.modules()):
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for child, layer in list(part.named_children()):
            if smooth and isinstance(layer, nn.ReLU | nn.ReLU6):
                setattr(part, child, nn.SiLU())
    return network, torch.randn(8, 3, 64, 64)


def declare_detection_operators() -> None:
    """Declare what torchvision's wheel for another build of torch has kernels of."""
    for name in ("nms", "qnms"):
        if hasattr(torch.ops.torchvision, name):
            continue
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)


_LIBRARIES: list[torch.library.Library] = []
"""A declaration lasts as long as its library."""


class _Only(nn.Module):
    """A language model's first output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        found = self.model(tokens, return_dict=False, use_cache=False)[0]
        return found.flatten(0, 1)


def of_transformers(name: str, seed: int = 0) -> Case:
    """Return BERT or GPT-2 of two layers of width 64, without dropout."""
    declare_detection_operators()
    import transformers as hf

    torch.manual_seed(seed)
    if name == "bert":
        config = hf.BertConfig(
            vocab_size=200, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=128, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            attn_implementation="sdpa",
        )  # fmt: skip
        model = hf.BertForMaskedLM(config)
    else:
        config = hf.GPT2Config(
            vocab_size=200, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, attn_implementation="sdpa",
        )  # fmt: skip
        model = hf.GPT2LMHeadModel(config)
    return _Only(model), torch.randint(0, 200, (4, 16))
