"""PyTorch modules."""

import torch
from torch import nn

example_inputs = {"x": torch.randn(2, 3, 64, 64)}


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


def transformer() -> nn.Module:
    """Return a Transformer encoder of four layers for [N, T, 64] sequences."""
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).eval()


def lstm() -> nn.Module:
    """Return a bidirectional LSTM of two layers for [N, T, 64] sequences."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(64, 32, num_layers=2, bidirectional=True, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x)[0]

    return Last().eval()
