"""Compression techniques, one module each: a schema ``Settings`` and ``apply(candidate, context, settings)``.

A technique may import src.core, src.network, src.training and src.compression, and no other technique.
"""
