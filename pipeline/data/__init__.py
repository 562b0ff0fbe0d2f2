"""Data sources: samples for calibration, training, probing and scoring, streamed."""

from onnxsmith.pipeline.data.base import Batch, DataSource
from onnxsmith.pipeline.data.conform import conform
from onnxsmith.pipeline.data.feeding import Feed, feeds, fixed_batch, sample_dims
from onnxsmith.pipeline.data.open import open_data
from onnxsmith.pipeline.data.overlap import content_digest, refuse_shared, shared_samples
from onnxsmith.pipeline.data.table import SOURCES

__all__ = [
    "SOURCES",
    "Batch",
    "DataSource",
    "Feed",
    "conform",
    "content_digest",
    "feeds",
    "fixed_batch",
    "open_data",
    "refuse_shared",
    "sample_dims",
    "shared_samples",
]
