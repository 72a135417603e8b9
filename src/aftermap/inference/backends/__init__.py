"""Runtimes that a network can run on: PyTorch, ONNX Runtime and OpenVINO, and the choice between them."""
