"""Tiny random models of transformers, and greedy generation with the ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

FOLDER = Path(__file__).resolve().parent
TEXT = {
    "vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
PAIR = {
    "vocab_size": 99, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}  # fmt: skip
IMAGE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
LLAMA = {**TEXT, "num_key_value_heads": 2, "head_dim": 8}
# No token ends a generation, so that all steps are compared.
ENDLESS = {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
CONFIGS: dict[str, dict[str, Any]] = {
    "Bert": TEXT,
    "DistilBert": {"vocab_size": 99, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    "GPT2": {
        "vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
        **ENDLESS,
    },
    "Llama": {**LLAMA, **ENDLESS},
    "Mistral": {**LLAMA, **ENDLESS, "sliding_window": 4},
    "T5": {
        "vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
        "decoder_start_token_id": 0, "eos_token_id": None,
    },
    "Bart": {**PAIR, "max_position_embeddings": 64, "eos_token_id": None,
        "tie_word_embeddings": False,
    },
    "Whisper": {
        **PAIR, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 40,
        **ENDLESS, "decoder_start_token_id": 3,
    },
    "ViT": IMAGE,
    "ConvNext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "CLIP": {
        "text_config": {**TEXT, "eos_token_id": 98},
        "vision_config": IMAGE,
        "projection_dim": 16,
    },
    "Wav2Vec2": {
        "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2),
        "conv_kernel": (10, 3, 3), "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    },
    "Mamba": {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2},
}  # fmt: skip

Arrays = dict[str, np.ndarray[Any, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let torch's exporter warn of its own use of what torch deprecates."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"))
            item.add_marker(pytest.mark.filterwarnings("ignore::FutureWarning:torch"))


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> Iterator[None]:
    """Keep transformers' remarks on tiny configurations off the terminal."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


@pytest.fixture(scope="session")
def make() -> Callable[..., Any]:
    """Build a random model: ``make("Bert", "ForMaskedLM", num_labels=3)``.

    Its matrices are large: with the usual ones it would generate one token for ever, whatever
    it is given.
    """

    def build(family: str, head: str, **options: Any) -> Any:
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**{**CONFIGS[family], **options})
        model = getattr(transformers, f"{family}{head}")(config).eval()
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() >= 2:
                    scale = 2.0 / weight[0].numel() ** 0.5
                    weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
        return model

    return build


@pytest.fixture(scope="session")
def to_onnx() -> Callable[..., Artifact]:
    """Convert a live model, and check that it met its parity."""

    def run(model: Any, part: str | None = None) -> Artifact:
        result = convert(model, part=part)
        assert result.frontend == "huggingface"
        assert max(difference.max_rel for difference in result.parity) <= 1e-5
        return result.artifact

    return run


@pytest.fixture(scope="session")
def generate() -> Callable[..., np.ndarray[Any, Any]]:
    """Generate greedily: ``generate(decoder, tokens, steps, further inputs)``."""
    return _generate


def _empty_past(artifact: Artifact, batch: int) -> Arrays:
    """Return the cache inputs of the first step: no tokens yet."""
    found: Arrays = {}
    for spec in artifact.spec.inputs:
        if spec.shape is not None and spec.shape[2:3] == ("past_sequence",):
            found[spec.name] = np.zeros((batch, int(str(spec.shape[1])), 0, 8), np.float32)
    return found


def _generate(
    artifact: Artifact, tokens: np.ndarray[Any, Any], steps: int, given: Arrays
) -> np.ndarray[Any, Any]:
    """Add ``steps`` tokens, one a run; an ``attention_mask`` in ``given`` grows by each."""
    cache = _empty_past(artifact, len(tokens))
    fresh = tokens
    with Session(artifact, optimize=False) as session:
        for _ in range(steps):
            found = session.run({"input_ids": fresh, **given, **cache})
            fresh = found["logits"][:, -1:].argmax(-1)
            tokens = np.concatenate([tokens, fresh], axis=1)
            if "attention_mask" in given:
                mask = np.concatenate([given["attention_mask"], np.ones_like(fresh)], axis=1)
                given = {**given, "attention_mask": mask}
            kept = {n.replace("present", "past_key_values", 1): a for n, a in found.items()}
            cache = {name: kept[name] for name in cache}
    return tokens
