"""Faults on purpose: what becomes of the pipeline when something around it goes wrong."""
