"""Training: recipes, batches, optimizers, the loop, checkpoints, several processes, tracking.

May import src.core, src.data and src.network.
"""
