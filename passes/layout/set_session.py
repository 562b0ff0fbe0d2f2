"""Write session settings into the model, so that the runtime keeps a choice."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import UsageError
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.runtime.settings import (
    DISABLED_KEY,
    LEVEL_KEY,
    NHWC_KEY,
    SETTINGS_KEY,
    travelling_settings,
)


@dataclass(frozen=True)
class SetSession(Pass):
    """Store which of the runtime's own optimizers stay off, and their level.

    The graph stays as it is. The settings lie in the model's metadata as a JSON object; every
    session of this tool applies them, other programs have to read them. What other settings the
    model has stays; optimizers that it switched off before stay off. With no options nothing
    changes. An optimizer that the runtime does not know has no effect there.

    Options: ``disable`` names optimizers; ``level`` is that of the runtime's optimizations;
    ``nhwc`` says whether the CUDA provider runs convolutions with channels last.

    Source: ONNX Runtime's session option ``optimization.disable_specified_optimizers``, and the
    option ``prefer_nhwc`` of its CUDA provider.
    """

    name: ClassVar[str] = "set-session"

    disable: tuple[str, ...] = ()
    level: Literal["keep", "all", "extended", "basic", "off"] = "keep"
    nhwc: Literal["keep", "yes", "no"] = "keep"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Merge the settings into the model's own.

        Raises:
            UsageError: A name cannot be that of an optimizer.
            SmithError: The settings that the model has are damaged.
        """
        for name in self.disable:
            if not re.fullmatch(r"\w+", name):
                raise UsageError(
                    f"{name!r} is no name of a runtime's optimizer",
                    "give names such as SkipLayerNormFusion, joined by +",
                )
        settings = travelling_settings(Artifact(model))
        merged = dict(settings)
        known = [name for name in settings.get(DISABLED_KEY, "").split(";") if name]
        names = list(dict.fromkeys([*known, *self.disable]))
        if names:
            merged[DISABLED_KEY] = ";".join(names)
        if self.level != "keep":
            merged[LEVEL_KEY] = self.level
        if self.nhwc != "keep":
            merged[NHWC_KEY] = "1" if self.nhwc == "yes" else "0"
        if merged == settings:
            return PassResult(model, modified=False)
        model.metadata_props[SETTINGS_KEY] = json.dumps(merged, sort_keys=True)
        return PassResult(model, modified=True, details={"settings": merged})
