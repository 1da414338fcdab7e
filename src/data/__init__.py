"""Pictures from any source, brought into one form and split: CIFAR, folders, archives, npz files, torchvision's sets.

May import src.core.
"""
