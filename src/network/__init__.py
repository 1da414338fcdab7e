"""Networks: the plan and tensors of a VGG, running it, folding it, counting its cost.

May import src.core. An edit here schedules the stage train.
"""
