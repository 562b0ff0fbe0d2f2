"""What is exported of a model: which inputs, which outputs, and the module between them.

Decided by what the model says of itself (its main input, its forward's parameters, whether it has
an encoder, a cache, two towers), not by a list of architectures.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.huggingface.feeds import (
    BATCH,
    ENCODER,
    PAST,
    SEQUENCE,
    SIZES,
    TOTAL,
    Feed,
    asked_for,
    dtype_name,
    examples,
    image_feed,
    image_sizes,
    sound_feed,
    text_feeds,
    to_tensors,
    vocabulary,
)
from onnxsmith.pipeline.frontends.huggingface.wrappers import (
    CrossDecoder,
    CrossEncoder,
    Decoder,
    Forward,
    Tower,
    run_decoder,
    tensors_of,
)
from onnxsmith.pipeline.frontends.torch.routes import quiet
from onnxsmith.pipeline.loading import describe
from onnxsmith.spec import Dim, ValueSpec

_SPACE = ("height", "width")


@dataclass(frozen=True)
class Plan:
    """A module with its inputs and outputs.

    Attributes:
        module: Takes and returns tensors by position.
        feeds: Its inputs.
        outputs: The names of its outputs.
        sizes: Sizes of the symbolic dimensions in the example.
        shapes: Shapes of outputs whose dimensions have names of their own.
    """

    module: torch.nn.Module
    feeds: tuple[Feed, ...]
    outputs: tuple[str, ...]
    sizes: Mapping[str, int]
    shapes: Mapping[str, tuple[Dim, ...]] = field(default_factory=dict)

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the symbolic dimensions, sums included."""
        found = [d for feed in self.feeds for d in feed.spec.shape or () if isinstance(d, str)]
        return tuple(dict.fromkeys(found))

    def fixed(self, names: Sequence[str]) -> Plan:
        """Return the plan with dimensions fixed at the example's size."""
        known = {name: self.sizes[name] for name in names}

        def fix(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
            return tuple(known.get(d, d) if isinstance(d, str) else d for d in shape)

        feeds = [
            replace(f, spec=replace(f.spec, shape=fix(f.spec.shape or ()))) for f in self.feeds
        ]
        return replace(self, feeds=tuple(feeds))


def plan_export(model: Any, request: ConvertRequest, left_out: Sequence[str]) -> Plan:
    """Decide what is exported.

    Args:
        model: The model, in evaluation mode.
        request: Its ``part``, and the inputs and sizes asked for.
        left_out: Outputs that have no weights.

    Raises:
        UsageError: The part or an input is none of the model's.
        SmithError: The model is of a kind that this frontend does not know, or does not run.
    """
    parts = _parts(model)
    if request.part not in parts:
        raise _wrong_part(model, request.part, parts)
    plan = parts[request.part](model, request, left_out)
    return _with_open_space(plan, model, request)


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the parameters that a function spells out."""
    return tuple(inspect.signature(function).parameters)


_Planner = Callable[[Any, ConvertRequest, Sequence[str]], Plan]


def _parts(model: Any) -> dict[str | None, _Planner]:
    names = parameters(model.forward)
    if {"input_ids", "pixel_values"} <= set(names) and hasattr(model, "get_image_features"):
        if "past_key_values" in names or not hasattr(model, "get_text_features"):
            raise _unknown(model, "it takes texts and images together")
        return {None: _both_towers, "text": _text_tower, "vision": _vision_tower}
    generates = model.can_generate()
    if model.config.is_encoder_decoder and (generates or model.base_model is model):
        if not {"decoder_input_ids", "encoder_outputs", "past_key_values"} <= set(names):
            raise _unknown(model, "its decoder does not run apart from its encoder")
        return {"encoder": _encoder, "decoder": _cross_decoder}
    if generates:
        if model.main_input_name != "input_ids" or "pixel_values" in names:
            raise _unknown(model, "it generates from more than text")
        if "past_key_values" not in names:
            raise _unknown(model, "it generates with a state that is no cache of keys and values")
        return {None: _decoder}
    return {None: _forward}


def _forward(model: Any, request: ConvertRequest, left_out: Sequence[str]) -> Plan:
    names = parameters(model.forward)
    feeds = asked_for(_main_feeds(model, names), request.inputs)
    options = {"use_cache": False} if "use_cache" in names else {}
    inputs = [feed.spec.name for feed in feeds]
    sizes = _sizes(model, feeds, request)
    found = _run(model, lambda: model(**_given(feeds, sizes), **options))
    outputs = [
        name
        for name, value in found.items()
        if isinstance(value, torch.Tensor) and name not in left_out
    ]
    return Plan(Forward(model, inputs, outputs, options), feeds, tuple(outputs), sizes)


def _main_feeds(model: Any, names: Sequence[str]) -> list[Feed]:
    main = model.main_input_name
    if main == "input_ids":
        return text_feeds(model, names)
    if main == "pixel_values":
        return [image_feed(model.config, dtype_name(model))]
    if main in ("input_values", "input_features"):
        return [sound_feed(main, model.config, dtype_name(model))]
    raise _unknown(model, f"its main input is {main!r}")


def _both_towers(model: Any, request: ConvertRequest, left_out: Sequence[str]) -> Plan:
    names = parameters(model.forward)
    text = text_feeds(model, names, batch="text_batch")
    images = image_feed(model.config, dtype_name(model), batch="image_batch")
    feeds = asked_for([*text, images], request.inputs)
    sizes = _sizes(model, feeds, request)
    found = _run(model, lambda: model(**_given(feeds, sizes)))
    outputs = [
        name
        for name, value in found.items()
        if isinstance(value, torch.Tensor) and name not in left_out
    ]
    module = Forward(model, [feed.spec.name for feed in feeds], outputs, {})
    return Plan(module, feeds, tuple(outputs), sizes)


def _text_tower(model: Any, request: ConvertRequest, _left_out: Sequence[str]) -> Plan:
    feeds = text_feeds(model, parameters(model.get_text_features))
    return _tower(model, "get_text_features", feeds, "text_embeds", request)


def _vision_tower(model: Any, request: ConvertRequest, _left_out: Sequence[str]) -> Plan:
    feeds = [image_feed(model.config, dtype_name(model))]
    return _tower(model, "get_image_features", feeds, "image_embeds", request)


def _tower(
    model: Any, method: str, known: Sequence[Feed], name: str, request: ConvertRequest
) -> Plan:
    feeds = asked_for(known, request.inputs)
    module = Tower(model, method, [feed.spec.name for feed in feeds])
    sizes = _sizes(model, feeds, request)
    return Plan(module, feeds, (name, "last_hidden_state"), sizes)


def _decoder(model: Any, request: ConvertRequest, _left_out: Sequence[str]) -> Plan:
    ids = torch.zeros((2, 2), dtype=torch.int64)
    found = _run(model, lambda: model(input_ids=ids, use_cache=True))
    feeds = [
        Feed(ValueSpec("input_ids", "int64", (BATCH, SEQUENCE)), vocabulary(model)),
        Feed(ValueSpec("attention_mask", "int64", (BATCH, TOTAL)), 2),
        *_cache_feeds(model, found.get("past_key_values"), "", PAST),
    ]
    outputs, shapes = _presents(feeds[2:])
    module = Decoder(model, "position_ids" in parameters(model.forward))
    taken = asked_for(feeds, request.inputs)
    return Plan(module, taken, ("logits", *outputs), _sizes(model, taken, request), shapes)


def _encoder(model: Any, request: ConvertRequest, _left_out: Sequence[str]) -> Plan:
    feeds = asked_for(_encoder_feeds(model), request.inputs)
    _, cross = _caches(model)
    names = [name for name, _ in _cache_shapes(cross, ".encoder")]
    module = CrossEncoder(model, [feed.spec.name for feed in feeds])
    sizes = _sizes(model, feeds, request)
    outputs = ("last_hidden_state", *(f"present.{name}" for name in names))
    return Plan(module, feeds, outputs, sizes)


def _cross_decoder(model: Any, request: ConvertRequest, _left_out: Sequence[str]) -> Plan:
    own, cross = _caches(model)
    masked = len(_encoder_feeds(model)) > 1
    feeds = [Feed(ValueSpec("input_ids", "int64", (BATCH, SEQUENCE)), vocabulary(model))]
    if masked:
        feeds.append(Feed(ValueSpec("encoder_attention_mask", "int64", (BATCH, ENCODER)), 2))
    mine = _cache_feeds(model, own, ".decoder", PAST)
    theirs = _cache_feeds(model, cross, ".encoder", ENCODER)
    for i in range(0, len(mine), 2):
        feeds += [*mine[i : i + 2], *theirs[i : i + 2]]
    output = "logits" if model.can_generate() else "last_hidden_state"
    module = CrossDecoder(model, masked, _width(model), output)
    outputs, shapes = _presents(mine)
    taken = asked_for(feeds, request.inputs)
    return Plan(module, taken, (output, *outputs), _sizes(model, taken, request), shapes)


def _encoder_feeds(model: Any) -> list[Feed]:
    """Return the encoder's inputs; only texts have a mask that the decoder needs again."""
    return _main_feeds(model, ["attention_mask"])


def _caches(model: Any) -> tuple[Any, Any]:
    """Run encoder and decoder once, and return what the decoder keeps of itself and of both."""
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache

    feeds = tuple(_encoder_feeds(model))
    sizes = {**SIZES, **image_sizes(model.config)}

    def run() -> tuple[Any, Any]:
        given = dict(zip([f.spec.name for f in feeds], _tensors(feeds, sizes), strict=True))
        hidden = model.get_encoder()(**given).last_hidden_state
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        start = torch.zeros((hidden.shape[0], 1), dtype=torch.int64)
        run_decoder(model, start, hidden, given.get("attention_mask"), cache)
        return cache.self_attention_cache, cache.cross_attention_cache

    own, cross = _run(model, run)
    return own, cross


def _width(model: Any) -> int:
    config = model.get_encoder().config
    width = getattr(config, "hidden_size", None) or getattr(config, "d_model", None)
    if not isinstance(width, int):
        raise _unknown(model, "its encoder does not tell how wide its hidden states are")
    return width


def _cache_shapes(cache: Any, kind: str) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (f"{index // 2}{kind}.{'value' if index % 2 else 'key'}", tuple(tensor.shape))
        for index, tensor in enumerate(tensors_of(cache))
    ]


def _cache_feeds(model: Any, cache: Any, kind: str, length: str) -> list[Feed]:
    """Return an input for each layer's keys and values.

    Raises:
        SmithError: The model keeps something else between steps.
    """
    from transformers.cache_utils import DynamicLayer

    layers = getattr(cache, "layers", ())
    plain = all(isinstance(layer, DynamicLayer) and layer.is_initialized for layer in layers)
    if not layers or not plain or any(len(s) != 4 for _, s in _cache_shapes(cache, kind)):
        raise _unknown(model, "it keeps more between steps than keys and values")
    dtype = dtype_name(model)
    return [
        Feed(ValueSpec(f"past_key_values.{name}", dtype, (BATCH, shape[1], length, shape[3])))
        for name, shape in _cache_shapes(cache, kind)
    ]


def _presents(feeds: Sequence[Feed]) -> tuple[tuple[str, ...], dict[str, tuple[Dim, ...]]]:
    """Return the outputs that continue the caches of ``feeds``."""
    shapes: dict[str, tuple[Dim, ...]] = {}
    for feed in feeds:
        batch, heads, _, width = feed.spec.shape or ()
        name = feed.spec.name.replace("past_key_values", "present", 1)
        shapes[name] = (batch, heads, TOTAL, width)
    return tuple(shapes), shapes


def _sizes(model: Any, feeds: Sequence[Feed], request: ConvertRequest) -> dict[str, int]:
    """Return the example's size of each dimension.

    Raises:
        UsageError: ``--dim`` names none of them, or a size that exporters take for a constant.
    """
    known = {**SIZES, **image_sizes(model.config)}
    names = {part for feed in feeds for part in _open_dims(feed.spec)}
    sizes = {name: known.get(name, 8) for name in sorted(names)}
    for name, size in request.dims.items():
        if name not in sizes:
            raise UsageError(f"no input has a dimension {name!r}", f"there are: {', '.join(sizes)}")
        if size < 2:
            raise UsageError(
                f"the example size {size} of the dimension {name!r} is too small",
                f"give --dim {name}=2 or more: exporters treat 0 and 1 as constants",
            )
        sizes[name] = size
    return sizes


def _open_dims(spec: ValueSpec) -> list[str]:
    parts = [part for d in spec.shape or () if isinstance(d, str) for part in d.split(" + ")]
    return [part for part in parts if not part.isdigit()]


def _with_open_space(plan: Plan, model: Any, request: ConvertRequest) -> Plan:
    """Fix height and width where the model takes images of one size only."""
    asked = {d for spec in request.inputs for d in spec.shape or ()}
    space = [name for name in _SPACE if name in plan.sizes and name not in asked]
    if not space:
        return plan
    larger = {**plan.sizes, **{name: plan.sizes[name] + 32 for name in space}}
    try:
        with quiet():
            plan.module(*_tensors(plan.feeds, larger))
    except Exception:  # noqa: BLE001 - whatever it raises, it does not take another size
        return plan.fixed(space)
    _run(model, lambda: plan.module(*_tensors(plan.feeds, plan.sizes)))
    return plan


def _tensors(feeds: Sequence[Feed], sizes: Mapping[str, int]) -> tuple[torch.Tensor, ...]:
    return to_tensors(examples(feeds, sizes, 0))


def _given(feeds: Sequence[Feed], sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    return dict(zip([f.spec.name for f in feeds], _tensors(feeds, sizes), strict=True))


def _run(model: Any, call: Callable[[], Any]) -> Any:
    try:
        with quiet():
            return call()
    except Exception as error:  # models raise anything
        raise SmithError(
            f"{type(model).__name__} does not run on its main input alone: {describe(error)}",
            "give sizes that it takes with --dim or --input, or convert an nn.Module around it",
        ) from error


def _wrong_part(model: Any, part: str | None, parts: Mapping[str | None, _Planner]) -> UsageError:
    name = type(model).__name__
    known = [known for known in parts if known is not None]
    if not known:
        return UsageError(f"{name} has no part {part!r}: it is one model", "leave --part away")
    if part is None:
        what = f"{name} is exported in parts: {' and '.join(known)}"
    else:
        what = f"{name} has no part {part!r}"
    whole = ", or leave it away for the whole" if None in parts else ""
    return UsageError(what, f"give {' or '.join(f'--part {name}' for name in known)}{whole}")


def _unknown(model: Any, why: str) -> SmithError:
    return SmithError(
        f"the architecture {type(model).__name__} is not covered: {why}",
        "write an nn.Module around it that takes and returns tensors, and convert "
        "package.module:callable",
    )
