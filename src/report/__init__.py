"""The comparison of all recipes: one table and its headline numbers.

May import src.core.
"""
