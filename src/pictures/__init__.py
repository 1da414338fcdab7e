"""Every picture of the stage draw, one module for each subject; studies and scripts share the style.

May import src.core, src.data, src.network, src.training, src.separation and src.results.
"""
