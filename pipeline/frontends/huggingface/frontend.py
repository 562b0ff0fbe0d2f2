"""The frontend ``huggingface``: models of the transformers library, through torch's exporter."""

from __future__ import annotations

from typing import Any, ClassVar

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.huggingface.folder import (
    find_folder,
    is_model_folder,
    open_folder,
)
from onnxsmith.pipeline.frontends.huggingface.record import describe_folder, describe_model
from onnxsmith.pipeline.frontends.sources import top_classes
from onnxsmith.pipeline.frontends.table import require_installed


class HuggingFaceFrontend:
    """Hugging Face: a folder that ``save_pretrained`` wrote, or a live PreTrainedModel."""

    name: ClassVar[str] = "huggingface"
    extra: ClassVar[str] = "huggingface"
    packages: ClassVar[tuple[str, ...]] = ("transformers", "torch", "onnxscript")
    accepts: ClassVar[str] = (
        "a folder with config.json and model.safetensors (--part encoder, decoder, text, vision)"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "huggingface"

    def match(self, source: str) -> Match | None:
        """Take folders whose ``config.json`` is one of transformers, and the files in them."""
        folder = find_folder(source)
        if folder is None or not is_model_folder(folder):
            return None
        return Match(1.0, "its config.json is one of transformers")

    def match_object(self, value: object) -> Match | None:
        """Take live models."""
        if "transformers.PreTrainedModel" in top_classes(value):
            return Match(1.0, "it is a PreTrainedModel")
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Load the folder's model in evaluation mode, in float32; nothing is downloaded.

        Raises:
            SmithError: The folder is damaged or incomplete, its architecture is unknown, or it
                brings code of its own and is not trusted.
        """
        _refuse_weights(request)
        folder = open_folder(request.source)
        require_installed(self)
        from onnxsmith.pipeline.frontends.huggingface.load import load_model
        from onnxsmith.pipeline.frontends.huggingface.source import ModelSource

        model, unused = load_model(folder, request.trust)
        return ModelSource(model, request, describe_folder(folder), unused, folder.digests())

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live model, in its own element type; it is put into evaluation mode.

        Raises:
            SmithError: It is none.
        """
        _refuse_weights(request)
        require_installed(self)
        from transformers import PreTrainedModel

        from onnxsmith.pipeline.frontends.huggingface.source import ModelSource

        if not isinstance(value, PreTrainedModel):
            raise SmithError(
                f"{request.source!r} is no PreTrainedModel", "give a model of transformers"
            )
        generation: Any = getattr(value, "generation_config", None)
        settings = {} if generation is None else generation.to_diff_dict()
        record = describe_model(value.config.to_diff_dict(), settings)
        return ModelSource(value.eval(), request, record)


def _refuse_weights(request: ConvertRequest) -> None:
    if request.weights is not None:
        raise UsageError("a Hugging Face folder holds its own weights", "leave --weights away")
