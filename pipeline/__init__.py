"""What is made of the parts: data, frontends, evaluation, runs and their reports."""
