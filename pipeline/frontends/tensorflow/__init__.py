"""TensorFlow comes in: SavedModels, frozen graphs, functions and modules."""
