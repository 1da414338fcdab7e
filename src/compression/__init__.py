"""Compression techniques, one module each: a `Settings` schema and ``apply(candidate, context, settings)``.

`recipe` holds the table of them and runs the lists of steps that params.yaml calls recipes.
"""
