"""The ground that everything stands on: errors, files, params, device, signals.

May import nothing of this project.
"""
