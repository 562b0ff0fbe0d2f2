"""LightGBM comes in: boosters, its scikit-learn classes and model files."""
