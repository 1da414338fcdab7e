"""Every picture, one module for each subject; only the stage draw uses them.

May import src.core, src.data, src.network, src.training and src.results.
"""
