"""CatBoost comes in: models and ``.cbm`` files, through its own ONNX export."""
