"""How static quantization decides what becomes integers, and writes it down."""
