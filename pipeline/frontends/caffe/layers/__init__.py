"""What each Caffe layer is in ONNX, a topic a file."""
