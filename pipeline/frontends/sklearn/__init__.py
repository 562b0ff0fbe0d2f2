"""scikit-learn comes in: fitted estimators and pipelines, through skl2onnx."""
