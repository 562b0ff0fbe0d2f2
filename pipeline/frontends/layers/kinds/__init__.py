"""The kinds of layers, a family a file: what YAML may say of each, and the nodes it becomes."""
