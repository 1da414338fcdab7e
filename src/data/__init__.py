"""The files of CIFAR-10: their layout and checksums, how to fetch and read them, how to split them.

May import src.core.
"""
