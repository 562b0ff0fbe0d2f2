"""The kinds of data source by name."""

from __future__ import annotations

from onnxsmith.plugins import Table

SOURCES = Table(
    "data source",
    "onnxsmith.data",
    {
        "csv": "onnxsmith.pipeline.data.csv:CsvReader",
        "digits": "onnxsmith.pipeline.data.digits:DigitsReader",
        "images": "onnxsmith.pipeline.data.images:ImagesReader",
        "mnist": "onnxsmith.pipeline.data.mnist:MnistReader",
        "npz": "onnxsmith.pipeline.data.npz:NpzReader",
    },
)
"""Each row is a class with the interface of ``onnxsmith.pipeline.data.base.Reader``."""
