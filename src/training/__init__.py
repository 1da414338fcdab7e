"""Training: recipes, batches, optimizers, the loop, checkpoints, several processes, tracking.

May import src.core and src.network.
"""
