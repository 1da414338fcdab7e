"""All pictures, one module for each subject; these modules draw, and they measure and read nothing.

May import every other package of src. An edit here reruns only the stages that draw.
"""
