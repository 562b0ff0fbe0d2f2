"""The inputs of a model by the names that Hugging Face gives them, and examples of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.numerics import numpy_dtype
from onnxsmith.spec import ValueSpec

BATCH, SEQUENCE, PAST = "batch", "sequence", "past_sequence"
ENCODER = "encoder_sequence"
TOTAL = f"{PAST} + {SEQUENCE}"
# Distinct, so that two dimensions are not taken for one; exporters treat 0 and 1 as constants.
SIZES = {
    BATCH: 2, SEQUENCE: 5, PAST: 3, ENCODER: 7, "text_batch": 3, "image_batch": 2,
    "samples": 4000, "frames": 96, "height": 64, "width": 96,
}  # fmt: skip
# What images and videos have where a configuration does not say.
_CHANNELS = 3


@dataclass(frozen=True)
class Feed:
    """One input.

    Attributes:
        spec: Name, element type and dimensions.
        high: Of integers, one more than the largest value; a mask has 2. 0 for floats.
    """

    spec: ValueSpec
    high: int = 0

    def example(self, sizes: Mapping[str, int], generator: np.random.Generator) -> np.ndarray:
        """Return random values; integers that are no mask include the smallest and the largest.

        A mask hides the first token of the first sample, as padding on the left does.
        """
        shape = self.spec.concrete(sizes, 2)
        dtype = numpy_dtype(self.spec.dtype)
        if not self.high:
            return np.asarray(generator.standard_normal(shape)).astype(dtype)
        if self.high == 2:
            mask = np.ones(shape, dtype)
            mask.flat[0] = 0
            return mask
        values = np.asarray(generator.integers(0, self.high, shape)).astype(dtype)
        values.flat[0], values.flat[-1] = 0, self.high - 1
        return values


def examples(
    feeds: Sequence[Feed], sizes: Mapping[str, int], seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Return an example of each input at the sizes of the dimensions."""
    generator = np.random.default_rng(seed)
    return {feed.spec.name: feed.example(sizes, generator) for feed in feeds}


def text_feeds(
    model: Any, parameters: Sequence[str], *, batch: str = BATCH, length: str = SEQUENCE
) -> list[Feed]:
    """Return ids, mask and, for models of more than one segment, segments of text."""
    config = model.config.get_text_config()
    feeds = [Feed(ValueSpec("input_ids", "int64", (batch, length)), vocabulary(model))]
    if "attention_mask" in parameters:
        feeds.append(Feed(ValueSpec("attention_mask", "int64", (batch, length)), 2))
    segments = getattr(config, "type_vocab_size", 0) or 0
    if "token_type_ids" in parameters and segments > 1:
        # One more than two is read as no mask; with two the probes draw both all the same.
        feeds.append(Feed(ValueSpec("token_type_ids", "int64", (batch, length)), segments))
    return feeds


def vocabulary(model: Any) -> int:
    """Return how many tokens the model knows."""
    config = model.config.get_text_config(decoder=True)
    size = getattr(config, "vocab_size", None) or getattr(model.config, "vocab_size", None)
    if not isinstance(size, int) or size < 1:
        raise SmithError(
            f"the configuration of {type(model).__name__} does not tell the size of its vocabulary",
            "add vocab_size to it",
        )
    return size


def image_feed(config: Any, dtype: str, *, batch: str = BATCH) -> Feed:
    """Return ``pixel_values``: a batch of images, or of videos where the model counts frames."""
    config = getattr(config, "vision_config", config)
    channels = getattr(config, "num_channels", None) or _CHANNELS
    frames = getattr(config, "num_frames", None)
    lead = (batch, frames, channels) if isinstance(frames, int) else (batch, channels)
    return Feed(ValueSpec("pixel_values", dtype, (*lead, "height", "width")))


def sound_feed(name: str, config: Any, dtype: str) -> Feed:
    """Return ``input_values`` or ``input_features``: samples, or a spectrogram.

    Raises:
        SmithError: The configuration does not tell the shape of the spectrogram.
    """
    bins = getattr(config, "num_mel_bins", None)
    if name == "input_values" and bins is None:
        return Feed(ValueSpec(name, dtype, (BATCH, "samples")))
    positions = getattr(config, "max_source_positions", None)
    if hasattr(config, "decoder_start_token_id") and bins and hasattr(config, "conv_channels"):
        return Feed(ValueSpec(name, dtype, (BATCH, "frames", bins)))  # Speech2Text
    if bins and positions:  # Whisper takes 30 seconds, neither more nor less
        return Feed(ValueSpec(name, dtype, (BATCH, bins, 2 * positions)))
    if bins and getattr(config, "max_length", None):  # the spectrogram as an image
        return Feed(ValueSpec(name, dtype, (BATCH, config.max_length, bins)))
    width = getattr(config, "feature_projection_input_dim", None)
    if width is None:
        raise SmithError(
            f"the shape of {name!r} does not follow from the configuration",
            f"give it: --input {name}:{dtype}[batch,...]",
        )
    return Feed(ValueSpec(name, dtype, (BATCH, "frames", width)))


def image_sizes(config: Any) -> dict[str, int]:
    """Return the height and width that a configuration names, else small ones."""
    config = getattr(config, "vision_config", config)
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return {"height": size, "width": size}
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return {"height": int(size[0]), "width": int(size[1])}
    return {name: SIZES[name] for name in ("height", "width")}


def asked_for(feeds: Sequence[Feed], specs: Sequence[ValueSpec]) -> tuple[Feed, ...]:
    """Return the inputs with the shapes that ``--input`` asks for; others stay as they are.

    Raises:
        UsageError: A name or an element type is not the model's.
    """
    asked = {spec.name: spec for spec in specs}
    known = {feed.spec.name: feed.spec.dtype for feed in feeds}
    for spec in specs:
        if spec.name not in known:
            raise UsageError(
                f"the model has no input {spec.name!r}", f"its inputs: {', '.join(known)}"
            )
        if spec.dtype != known[spec.name]:
            raise UsageError(
                f"the input {spec.name!r} is of type {known[spec.name]}, not {spec.dtype}",
                f"write {spec.name}:{known[spec.name]}[...]",
            )
    return tuple(replace(f, spec=asked.get(f.spec.name, f.spec)) for f in feeds)


def dtype_name(model: Any) -> str:
    """Return the element type of a model's weights: float32, float16 or bfloat16."""
    return str(model.dtype).removeprefix("torch.")


def to_tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> tuple[torch.Tensor, ...]:
    """Return the arrays as tensors, in order."""
    from onnxsmith.pipeline.frontends.torch.inputs import to_torch

    return tuple(to_torch(array) for array in arrays.values())
