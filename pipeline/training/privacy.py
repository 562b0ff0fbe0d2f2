"""Differential privacy: how much noise, and what it guarantees."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import cast

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.options import from_texts, split_options
from onnxsmith.pipeline.training.request import TrainRequest

# Whole orders are sums of a few terms; those between are series that need not converge.
_ORDERS = (*range(2, 129), 160, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True)
class PrivacyOptions:
    """How training is kept from telling whether somebody was among the samples.

    Attributes:
        noise: The deviation of the noise, in multiples of ``clip``.
        clip: The greatest length that the gradient of one sample has a say with.
        delta: How likely the guarantee may fail.

    Source: Abadi et al., "Deep Learning with Differential Privacy" (2016), algorithm 1.
    """

    noise: float = 1.0
    clip: float = 1.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if self.noise <= 0 or self.clip <= 0:
            raise UsageError("noise and clip are not positive", "write noise=1.1:clip=1")
        if not 0 < self.delta < 1:
            raise UsageError(f"delta={self.delta} is not in (0, 1)", "write delta=1e-5")

    @classmethod
    def of(cls, request: TrainRequest) -> PrivacyOptions | None:
        """Read ``noise=1.1:clip=1:delta=1e-5``; None where a request asks for no privacy.

        Raises:
            UsageError: An option is unknown or does not fit, or the request asks for something
                that would break the guarantee.
            SmithError: The package that accounts for it is missing.
        """
        if request.private is None:
            return None
        _, texts = split_options("privacy", f"private:{request.private}")
        for name, value in (("mixup", request.mixup), ("clip", request.clip)):
            if value is not None:
                raise UsageError(
                    f"--private cuts and blurs the gradient of each sample, --{name} of several",
                    f"leave --{name} away",
                )
        if request.accumulate > 1:
            raise UsageError(
                "--accumulate may take a sample twice, which --private does not account for",
                "give a larger --batch-size instead",
            )
        if importlib.util.find_spec("dp_accounting") is None:
            raise SmithError(
                "private training needs the package dp-accounting, which is not installed",
                "pip install 'onnxsmith[privacy]'",
            )
        return cast(PrivacyOptions, from_texts(cls, "--private", texts))

    def epsilon(self, share: float, updates: int) -> float:
        """Return what the updates so far guarantee, for two data sets that differ by a sample.

        Args:
            share: How likely a sample is in a batch.
            updates: How many there were.

        Source: Mironov et al., "Renyi Differential Privacy of the Sampled Gaussian Mechanism"
        (2019), as Google's ``dp-accounting`` has it.
        """
        import dp_accounting
        from dp_accounting import rdp

        step = dp_accounting.GaussianDpEvent(self.noise)
        if share < 1:
            step = dp_accounting.PoissonSampledDpEvent(share, step)
        accountant = rdp.RdpAccountant(_ORDERS)
        accountant.compose(dp_accounting.SelfComposedDpEvent(step, updates))
        return float(accountant.get_epsilon(self.delta))
