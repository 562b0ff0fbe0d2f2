"""Run the program as ``python -m onnxsmith``."""

from onnxsmith.cli.main import main

main()
