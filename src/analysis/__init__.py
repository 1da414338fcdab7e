"""What is measured of a trained network: accuracy and calibration, training curves, separation of the classes.

May import src.core, src.network and src.data.
"""
