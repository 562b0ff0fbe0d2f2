"""Modules that take and return plain tensors, around models that take caches and return records.

Each takes its tensors by position, in the order of the ONNX inputs, and returns a tuple in the
order of the ONNX outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Forward(nn.Module):
    """The model's own forward.

    Args:
        model: The model.
        inputs: The parameter that each tensor is given to.
        outputs: The entries of the result that are returned.
        options: Further arguments: ``{"use_cache": False}``.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Sequence[str],
        outputs: Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.model = model
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.options = dict(options)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the model."""
        found = self.model(**dict(zip(self.inputs, tensors, strict=True)), **self.options)
        return tuple(found[name] for name in self.outputs)


class Tower(nn.Module):
    """One of the two towers of a model that compares texts and images.

    Args:
        model: The model.
        method: ``get_text_features`` or ``get_image_features``.
        inputs: The parameter that each tensor is given to.
    """

    def __init__(self, model: nn.Module, method: str, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self.inputs = tuple(inputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding in the common space, and the tower's hidden states."""
        found = getattr(self.model, self.method)(**dict(zip(self.inputs, tensors, strict=True)))
        return found.pooler_output, found.last_hidden_state


class Decoder(nn.Module):
    """A language model with its keys and values as inputs and outputs.

    Takes ids, the mask of all tokens seen and new, and each layer's keys and values. Positions
    follow from the mask, so that padding on the left counts for nothing.
    """

    def __init__(self, model: nn.Module, positions: bool) -> None:
        super().__init__()
        self.model = model
        self.positions = positions

    def forward(self, *tensors: Tensor) -> tuple[Any, ...]:
        """Return the logits, then each layer's keys and values with the new tokens'."""
        input_ids, attention_mask, *past = tensors
        options: dict[str, Any] = {}
        if self.positions:
            counted = (attention_mask.cumsum(-1) - 1).clamp(min=0)
            options["position_ids"] = counted[:, past[0].shape[2] :]
        found = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache_of(past),
            use_cache=True,
            **options,
        )
        return found.logits, *tensors_of(found.past_key_values)


class CrossEncoder(nn.Module):
    """An encoder, and the keys and values that the decoder will read from it.

    They depend on nothing that the decoder generates: computed here, once, they need no branch in
    the decoder that tells the first step from the others.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.inputs = tuple(inputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the hidden states, then each layer's cross-attention keys and values."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        given = dict(zip(self.inputs, tensors, strict=True))
        encoder: Any = self.model.get_encoder()  # type: ignore[operator]  # a method of the model
        hidden = encoder(**given).last_hidden_state
        start = torch.zeros((hidden.shape[0], 1), dtype=torch.int64, device=hidden.device)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        run_decoder(self.model, start, hidden, given.get("attention_mask"), cache)
        return hidden, *tensors_of(cache.cross_attention_cache)


class CrossDecoder(nn.Module):
    """The decoder of an encoder-decoder model, its own and the cross cache as inputs.

    Takes ids, the encoder's mask where it has one, then for each layer its own keys and values
    and those of the encoder.
    """

    def __init__(self, model: nn.Module, masked: bool, width: int, output: str) -> None:
        super().__init__()
        self.model = model
        self.masked = masked
        self.width = width
        self.output = output

    def forward(self, *tensors: Tensor) -> tuple[Any, ...]:
        """Return the logits, then each layer's own keys and values with the new tokens'."""
        from transformers.cache_utils import EncoderDecoderCache

        input_ids, *rest = tensors
        mask, past = (rest[0], rest[1:]) if self.masked else (None, rest)
        own = [past[i + j] for i in range(0, len(past), 4) for j in (0, 1)]
        cross = [past[i + j] for i in range(0, len(past), 4) for j in (2, 3)]
        cache = EncoderDecoderCache(cache_of(own), cache_of(cross))
        cache.is_updated = dict.fromkeys(range(len(past) // 4), True)
        # Only its shape is read: the keys and values that follow from it are in the cache.
        hidden = cross[0].new_zeros(()).expand(cross[0].shape[0], cross[0].shape[2], self.width)
        found = run_decoder(self.model, input_ids, hidden, mask, cache)
        return found[self.output], *tensors_of(cache.self_attention_cache)


def run_decoder(model: Any, ids: Tensor, hidden: Tensor, mask: Tensor | None, cache: Any) -> Any:
    """Run an encoder-decoder model on what its encoder gave."""
    from transformers.modeling_outputs import BaseModelOutput

    options = {} if mask is None else {"attention_mask": mask}
    return model(
        encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
        decoder_input_ids=ids,
        past_key_values=cache,
        use_cache=True,
        **options,
    )


def cache_of(tensors: Sequence[Tensor]) -> Any:
    """Return a cache that holds each layer's keys and values, without copying them.

    Every layer keeps all tokens, also where it attends to the last ones only: its mask sees to
    that, and all layers grow alike.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache()
    for keys, values in zip(tensors[::2], tensors[1::2], strict=True):
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def tensors_of(cache: Any) -> tuple[Tensor, ...]:
    """Return each layer's keys and values, in order."""
    return tuple(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
