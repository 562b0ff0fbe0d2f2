"""PyTorch modules."""

import torch
from torch import nn


class Block(nn.Module):
    """A residual block with normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, C, H, W] to the same."""
        return torch.relu(self.body(x) + x)


def resnet() -> nn.Module:
    """Return a residual network of eight blocks for [N, 3, H, W] images."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        *[Block(32) for _ in range(8)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).eval()


class Inverted(nn.Module):
    """An inverted residual with squeeze and excitation, as in MobileNet V3."""

    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish()
        )
        self.depth = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.Hardswish(),
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(wide, wide // 4, 1),
            nn.ReLU(),
            nn.Conv2d(wide // 4, wide, 1),
            nn.Hardsigmoid(),
        )
        self.project = nn.Sequential(
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, C, H, W] to the same."""
        y = self.depth(self.expand(x))
        return x + self.project(y * self.squeeze(y))


def mobilenet() -> nn.Module:
    """Return six inverted residuals for [N, 3, H, W] images."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        *[Inverted(16, 64) for _ in range(6)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).eval()


def encoder(width: int) -> nn.Module:
    """Return four layers of a Transformer encoder on [N, T, width]."""
    layer = nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


def transformer() -> nn.Module:
    """Return a Transformer encoder of four layers for [N, T, 64] sequences."""
    return encoder(64).eval()


class VisionTransformer(nn.Module):
    """A vision Transformer of patches of 8x8 with a class token, on [N, 3, 64, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 64, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 64) * 0.1)
        self.places = nn.Parameter(torch.randn(1, 65, 64) * 0.1)
        self.encoder = encoder(64)
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [N, 10] scores."""
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat((self.token.expand(x.shape[0], -1, -1), y), dim=1) + self.places
        return self.head(self.norm(self.encoder(y)[:, 0]))


def vit() -> nn.Module:
    """Return a small vision Transformer."""
    return VisionTransformer().eval()


class Recurrent(nn.Module):
    """A recurrent network that returns its sequence alone."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layers = kind(64, 32, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, T, 64] to the same."""
        sequence: torch.Tensor = self.layers(x)[0]
        return sequence


def lstm() -> nn.Module:
    """Return a bidirectional LSTM of two layers for [N, T, 64] sequences."""
    return Recurrent(nn.LSTM).eval()


def gru() -> nn.Module:
    """Return a bidirectional GRU of two layers for [N, T, 64] sequences."""
    return Recurrent(nn.GRU).eval()


class Norm(nn.Module):
    """RMS normalization, in the operators that Llama's code has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [..., width] to the same."""
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Attention(nn.Module):
    """A decoder's layer as in Llama: rotary positions, gated feed-forward, RMS normalization."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.gate, self.up = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width, bias=False)
        self.before, self.after = Norm(width), Norm(width)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Map [N, T, width] to the same."""
        batch, time, _ = x.shape
        y = self.before(x)
        query, key, value = (
            part(y).view(batch, time, self.heads, self.width // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        query, key = (part * cos + turned(part) * sin for part in (query, key))
        y = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, time, self.width))
        y = self.after(x)
        down: torch.Tensor = self.down(nn.functional.silu(self.gate(y)) * self.up(y))
        return x + down


def turned(x: torch.Tensor) -> torch.Tensor:
    """Turn pairs of channels by a right angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class Decoder(nn.Module):
    """A small decoder as Llama's, from tokens [N, T] to scores [N, T, 100]."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.half = width // heads // 2
        self.table = nn.Embedding(100, width)
        self.blocks = nn.ModuleList(Attention(width, heads) for _ in range(4))
        self.norm = Norm(width)
        self.head = nn.Linear(width, 100, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        rates = 10000.0 ** (-torch.arange(self.half) / self.half)
        angles = torch.arange(x.shape[1])[:, None] * rates
        angles = torch.cat((angles, angles), dim=-1)
        y = self.table(x)
        for block in self.blocks:
            y = block(y, angles.cos(), angles.sin())
        scores: torch.Tensor = self.head(self.norm(y))
        return scores


def decoder() -> nn.Module:
    """Return a small decoder."""
    return Decoder().eval()
