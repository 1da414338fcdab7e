"""torchvision beside any build of PyTorch: import it from here.

torchvision from the package registry is compiled for CUDA. Beside a CPU-only PyTorch its compiled library cannot
load, and its import fails with "operator torchvision::nms does not exist", for it registers shape functions for
two operators that nobody has defined. Defining their schemas is enough; none of their code is needed here.
"""

import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _import() -> "tuple[torch.library.Library | None, object]":
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + SCHEMA)
        import torchvision

        return library, torchvision
    return None, torchvision


# The library is kept: its operators vanish with it.
_library, torchvision = _import()
