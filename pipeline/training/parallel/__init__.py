"""Training on several processes: each computes the gradient of a part of every batch."""
