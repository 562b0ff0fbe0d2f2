"""TensorFlow Lite comes in: float and quantized ``.tflite`` files."""
