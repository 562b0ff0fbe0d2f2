"""Keras comes in: .keras and .h5 files, callables and live models of its three backends."""
