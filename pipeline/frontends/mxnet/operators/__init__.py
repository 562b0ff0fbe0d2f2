"""MXNet's operators as ONNX, one family a file."""
