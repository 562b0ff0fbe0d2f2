"""The frontend ``layers``: networks described layer by layer in YAML."""
