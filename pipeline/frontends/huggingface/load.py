"""Load a folder's model with transformers: offline, in float32, without code of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.huggingface.folder import CONFIG, ModelFolder
from onnxsmith.pipeline.loading import describe

# The heads that models are saved without, where nothing ever trained them.
_POOLER = "pooler."
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def load_model(folder: ModelFolder, trust: bool) -> tuple[Any, tuple[str, ...]]:
    """Return the model in evaluation mode, and the outputs that it has no weights for.

    Weights stored as float16 or bfloat16 become float32, which every runtime computes in.

    Raises:
        SmithError: The architecture is unknown or needs trust; the weights are damaged, do not
            fit or are not all there.
    """
    with _offline():
        cls = _find_class(folder, trust)
        try:
            model, report = cls.from_pretrained(
                str(folder.path),
                dtype=torch.float32,
                attn_implementation="eager",
                local_files_only=True,
                trust_remote_code=trust,
                use_safetensors=folder.safe,
                weights_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # transformers, safetensors and torch share no base
            raise SmithError(
                f"transformers cannot load {folder.path} as {folder.architecture}: "
                f"{describe(error)}",
                "load it with from_pretrained yourself, and save it again",
            ) from error
    missing = report["missing_keys"]
    unfit = sorted(str(key[0]) for key in report.get("mismatched_keys", ()))
    lost = sorted(key for key in missing if f".{_POOLER}" not in f".{key}") + unfit
    if lost:
        raise SmithError(
            f"{folder.path} has no weights that fit {', '.join(lost[:3])}"
            + (f" and {len(lost) - 3} more of {folder.architecture}" if len(lost) > 3 else ""),
            f"name the architecture that was saved in {CONFIG}, or save all weights",
        )
    return model.eval(), ("pooler_output",) if missing else ()


def _find_class(folder: ModelFolder, trust: bool) -> Any:
    import transformers

    name = folder.architecture
    found = getattr(transformers, name, None) if name.isidentifier() else None
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    reference = _own_code(folder, name)
    if reference is None:
        raise SmithError(
            f"transformers {transformers.__version__} has no architecture {name!r}",
            "install the version that has it, or convert the model as an nn.Module: "
            "package.module:callable",
        )
    if not trust:
        raise SmithError(
            f"the architecture {name!r} is code in {folder.path}",
            "pass --trust if you know who made the folder",
        )
    return _run_code(folder, reference)


def _own_code(folder: ModelFolder, name: str) -> str | None:
    """Return ``module.Class`` of the architecture in the folder's own code."""
    references = [value for value in _strings(folder.code.values())]
    return next((value for value in references if value.rpartition(".")[2] == name), None)


def _strings(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Sequence):
            yield from (item for item in value if isinstance(item, str))


def _run_code(folder: ModelFolder, reference: str) -> Any:
    from transformers import AutoConfig
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    if "--" in reference:
        raise SmithError(
            f"the code of {reference.rpartition('.')[2]!r} lies in another repository",
            "copy its files into the folder, and name them in auto_map without '--'",
        )
    path = str(folder.path)
    try:
        cls: Any = get_class_from_dynamic_module(reference, path, local_files_only=True)
        config = AutoConfig.from_pretrained(path, trust_remote_code=True, local_files_only=True)
    except Exception as error:  # the code may raise anything
        raise SmithError(
            f"the code of {folder.path} does not load: {describe(error)}", "correct the code"
        ) from error
    cls.config_class = cls.config_class or type(config)
    return cls


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep transformers from the network, also where a folder names files that it lacks."""
    before = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(_OFFLINE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def attention(model: Any, implementation: str) -> Iterator[None]:
    """Compute attention by ``eager`` or ``sdpa`` for the moment, and experts by gathered weights.

    Written out (``eager``) attention gives the smaller graph, the older architectures export only
    so, and where a mask leaves nothing to attend to, its results are finite. Experts are computed
    by default with an operator of transformers' own, which ONNX does not have.
    """
    from transformers import PreTrainedModel

    configs = [m.config for m in model.modules() if isinstance(m, PreTrainedModel)]
    before = [(c, c._attn_implementation_internal, c._experts_implementation) for c in configs]
    for config, _, experts in before:
        config._attn_implementation_internal = implementation
        config._experts_implementation_internal = None if experts is None else "batched_mm"
    try:
        yield
    finally:
        for config, value, experts in before:
            config._attn_implementation_internal = value
            config._experts_implementation_internal = experts
