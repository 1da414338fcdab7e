"""What is shipped: ONNX files, their execution by ONNX Runtime, their latency.

May import src.core and src.network.
"""
