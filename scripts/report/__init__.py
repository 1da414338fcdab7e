"""The results of a revision as one HTML page that needs no network: python -m scripts.report [--rev demo]."""
