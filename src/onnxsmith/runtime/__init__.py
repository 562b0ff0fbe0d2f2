"""Running models: sessions, providers, probes and measurement."""
