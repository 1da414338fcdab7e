"""Decode a coded file to the ONNX file that it was made from: python -m scripts.decode FILE OUT.onnx."""

from src.export.decode import main

if __name__ == "__main__":
    main()
