"""What all techniques share: candidates, the tree of recipes, fine-tuning, the file of a compressed network.

May import src.core, src.network and src.training. An edit here reruns every recipe.
"""
