"""onnxsmith: models from any framework become checked, measured, shippable ONNX."""

from importlib.metadata import version

__version__ = version("onnxsmith")
