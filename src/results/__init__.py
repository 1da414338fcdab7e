"""What networks achieve: evaluation, and the comparison of all recipes in one table.

May import src.core, src.data and src.network.
"""
