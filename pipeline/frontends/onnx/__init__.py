"""ONNX itself comes in: read, repaired, fitted to the target."""
