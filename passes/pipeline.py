"""Pipelines of passes as text: ``fold-constants:limit=1024,fuse-batch-norm``."""

from __future__ import annotations

from dataclasses import dataclass

from onnxsmith.errors import UsageError
from onnxsmith.passes.base import Pass
from onnxsmith.passes.table import PASSES, PRESETS
from onnxsmith.plugins import suggestion


@dataclass(frozen=True)
class PassPipeline:
    """Passes in the order they run."""

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str) -> PassPipeline:
        """Read ``name[:option=value]...,name...``; safe unquoted in a shell.

        Raises:
            UsageError: A pass or option is unknown, or a value does not fit.
        """
        words = [word.strip() for word in text.split(",") if word.strip()]
        if not words:
            raise UsageError("the pipeline is empty", "name a pass; see 'onnxsmith passes list'")
        return cls(tuple(_parse_pass(word) for word in words))

    @classmethod
    def preset(cls, name: str) -> PassPipeline:
        """Return a preset's pipeline.

        Raises:
            UsageError: There is no such preset.
        """
        if name not in PRESETS:
            raise UsageError(f"unknown preset {name!r}", suggestion(name, list(PRESETS)))
        return cls.parse(PRESETS[name])

    def __str__(self) -> str:
        """Return the pipeline as :meth:`parse` reads it."""
        return ",".join(str(pass_) for pass_ in self.passes)


def _parse_pass(word: str) -> Pass:
    name, *options = word.split(":")
    texts: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise UsageError(
                f"cannot read the option {option!r} of the pass {name!r}", "write option=value"
            )
        if key in texts:
            raise UsageError(f"the pass {name!r} has the option {key!r} twice", "give it once")
        texts[key] = value
    found = PASSES.find(name)
    if not (isinstance(found, type) and issubclass(found, Pass)):
        raise UsageError(f"{name!r} is not a pass", "ask the author of the plugin")
    return found.from_options(texts)
