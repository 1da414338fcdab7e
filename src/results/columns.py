"""The registry of columns of metrics/comparison.csv: name, heading, kind of value, direction, axis in pictures.

The CSV file, the tables for people, the summary and the pictures read it, so that a column is described once.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

Row = dict[str, Any]
Kind = Literal["text", "share", "points", "count", "bytes", "times", "ms", "pflop"]
DECIMALS = {"share": ".4f", "points": ".2f", "times": ".2f", "ms": ".3f", "pflop": ".3f"}  # in the CSV file


@dataclass(frozen=True)
class Column:
    """One column.

    ``name``: in the CSV file; ``kind``: what its values are; ``heading``: in tables for people; ``better``: which
    values are better, or "" if none are; ``axis``: the label of the axis on which pictures show it as a cost, or ""
    if they do not. Shares are in 0..1, times in ms, "points" are percentage points, and "times" says how many times
    fewer or faster.
    """

    name: str
    kind: Kind
    heading: str
    better: Literal["higher", "lower", ""] = ""
    axis: str = ""

    def written(self, value: Any) -> str:
        """Return ``value`` as in the CSV file, with the fixed decimals of its kind; -0.00 loses its sign, NaN is ""."""
        if isinstance(value, float) and math.isnan(value):
            return ""
        decimals = DECIMALS.get(self.kind)
        return f"{value:z{decimals}}" if decimals else str(value)


COLUMNS = (
    Column("recipe", "text", "recipe"),
    Column("edition", "text", "edition"),
    Column("parent", "text", "parent"),
    Column("val_accuracy", "share", "val %", "higher"),
    Column("test_accuracy", "share", "test %", "higher"),
    Column("balanced_accuracy", "share", "balanced %", "higher"),
    Column("reference", "text", "against"),
    Column("difference_points", "points", "difference, points", "higher"),
    Column("difference_low", "points", "low", "higher"),
    Column("difference_high", "points", "high", "higher"),
    Column("claim", "text", "within margin"),
    Column("dense_points", "points", "to dense", "higher"),
    Column("tuned_points", "points", "to tuned", "higher"),
    Column("parameters", "count", "params", "lower"),
    Column("nonzero_parameters", "count", "nonzero", "lower"),
    Column("macs", "count", "MACs", "lower", "multiply-accumulates per image (MACs)"),
    Column("macs_ratio", "times", "MACs x", "higher"),
    Column("bytes", "bytes", "file", "lower", "size of the ONNX file (bytes)"),
    Column("bytes_ratio", "times", "file x", "higher"),
    Column("bytes_ratio_half", "times", "half x", "higher"),
    Column("packed_bytes", "bytes", "gzip", "lower"),
    Column("xz_bytes", "bytes", "xz", "lower"),
    Column("coded_bytes", "bytes", "coded", "lower"),
    Column("stored_bytes", "bytes", "stored", "lower", "size as it is stored: coded, or after gzip (bytes)"),
    Column("latency_ms_b1", "ms", "ms", "lower", "latency of a batch of 1 on one thread (ms)"),
    Column("latency_b1_ratio", "times", "ms x", "higher"),
    Column("latency_cold_ratio", "times", "ms x cold", "higher"),
    Column("latency_ms_b64", "ms", "ms of 64", "lower"),
    Column("latency_b64_ratio", "times", "64 x", "higher"),
    Column("image_passes", "count", "passes", "lower"),
    Column("pflop", "pflop", "PFLOP", "lower"),
    Column("pflop_after_root", "pflop", "after root", "lower"),
    Column("settings_tried", "count", "tried", "lower"),
)
BY_NAME = {column.name: column for column in COLUMNS}
COSTS = tuple(column.name for column in COLUMNS if column.axis)
# What `dvc exp show` and `dvc metrics diff` show of the recipes. Nothing of the test set: people choose by these.
SUMMARY = {"dense": ("val_accuracy",), "flagship": ("val_accuracy", "bytes", "macs")}
