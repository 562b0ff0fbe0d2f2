"""Rules that quantize one kind of node whose activations are quantized as they come."""
