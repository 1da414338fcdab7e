"""The ground that everything stands on: errors, files, params, device, signals, the prepared arrays.

May import nothing of this project.
"""
