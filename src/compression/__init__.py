"""What all techniques share: candidates, the tree of recipes, training by a budget.

May import every package but src.techniques and src.pictures. An edit here reruns every recipe.
"""
