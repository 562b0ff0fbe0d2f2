"""What is in a model and what it costs: parameters, operations, memory."""
