"""What values a model's tensors take on the user's data, in bounded memory."""
