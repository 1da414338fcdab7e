"""Read pickled arrays and plain values, and nothing that could run code."""

import io
import pickle
from typing import Any

import numpy as np

ARRAY: Any = np.zeros(1, np.uint8)
MAKERS = (ARRAY.__reduce__()[0], ARRAY.__reduce_ex__(5)[0], np.ndarray, np.dtype)  # what pickled arrays call
KNOWN = {maker.__name__: maker for maker in MAKERS}


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows NumPy's arrays, and nothing else besides Python's plain values."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what makes an array; `pickle.UnpicklingError` for any other name."""
        if module.split(".")[0] == "numpy" and name in KNOWN:
            return KNOWN[name]
        if (module, name) == ("_codecs", "encode"):  # so does Python 3 write bytes for Python 2
            return lambda text, _: text.encode("latin-1")
        raise pickle.UnpicklingError(f"asks for {module}.{name}; only arrays and plain values are read")


def load_plain(content: bytes, *keys: str) -> dict[str, Any]:
    """Return the pickled mapping ``content``, written by Python 2 or 3; ValueError if damaged or a key is missing."""
    try:
        values = PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
        named = {key.decode() if isinstance(key, bytes) else key: value for key, value in values.items()}
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"no pickle that can be read: {error!r}") from None
    if missing := [key for key in keys if key not in named]:
        raise ValueError(f"lacks {', '.join(missing)}")
    return named
