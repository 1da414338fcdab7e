"""Compression techniques, one module each: a schema ``Settings`` and ``apply(candidate, context, settings)``.

A technique may import every package but src.pictures, and no other technique.
"""
