"""Measuring networks: training curves, errors and accuracies, calibration, separation of the classes by layer.

May import src.core and src.network.
"""
