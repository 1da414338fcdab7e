"""What the table of positions says: the cut that each score names, its price, and the bias of in-sample CSI."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import ne
from statistics import median

import pandas as pd
from scipy import stats

from src.separation.scores import first_within
from studies.items import Row

SCORES = ("csi", "csi_pooled", "csi_unit", "probe", "si", "in_sample_300")
WORTH = "test_accuracy"
PRICES = ("macs_share", "test_accuracy", "loss", "regret", "steps_away")


def named(rows: Sequence[Row], score: str, epsilon: float) -> int:
    """Return the first position of ``rows``, those of one network, at most ``epsilon`` below the highest ``score``."""
    return first_within([row[score] for row in rows], epsilon)


def cuts(networks: Mapping[str, Sequence[Row]], seeds: Sequence[str], epsilon: float) -> list[Row]:
    """Return a row per network and score: the cut that it names, and the price (`PRICES`; points, MACs as shares).

    ``networks``: the rows of `studies.separation.measures.positions` by network; ``seeds``: those that are alike, of
    which the others give the control ``same_as_others``.
    """
    right = {name: named(rows, WORTH, epsilon) for name, rows in networks.items()}
    priced: list[Row] = []
    for name, rows in networks.items():
        places = {score: named(rows, score, epsilon) for score in SCORES}
        places |= {"depth": len(rows) - 1, "right": right[name]}
        places["same_as_others"] = round(median(right[other] for other in seeds if other != name))
        for score, place in places.items():
            correlation = _correlation(rows, score) if score in SCORES else {}
            priced.append({"network": name, "score": score, **_price(rows, place, right[name]), **correlation})
    return priced


def _price(rows: Sequence[Row], place: int, right: int) -> Row:
    """Return what the cut at ``place`` costs: loss against the best position, regret against the best as cheap."""
    worth = [row[WORTH] for row in rows]
    affordable = [row[WORTH] for row in rows if row["macs"] <= rows[place]["macs"]]
    return {
        "position": place,
        "block": rows[place]["block"],
        "macs_share": rows[place]["macs"] / rows[-1]["macs"],
        "test_accuracy": worth[place],
        "loss": 100 * (max(worth) - worth[place]),
        "regret": 100 * (max(affordable) - worth[place]),
        "steps_away": place - right,
    }


def _correlation(rows: Sequence[Row], score: str) -> Row:
    """Return Kendall's tau of ``score`` and test accuracy over positions, and its partial value given depth."""

    def tau(first: Sequence[float], second: Sequence[float]) -> float:
        return float(stats.kendalltau(first, second).statistic)

    values, worth, depth = [row[score] for row in rows], [row[WORTH] for row in rows], range(len(rows))
    together, with_depth, worth_with_depth = tau(values, worth), tau(values, depth), tau(worth, depth)
    rest = (1 - with_depth**2) * (1 - worth_with_depth**2)
    partial = (together - with_depth * worth_with_depth) / rest**0.5 if rest > 0 else float("nan")
    return {"tau": together, "partial_tau": partial}


def means(rows: Sequence[Row], by: Sequence[str], columns: Sequence[str]) -> list[Row]:
    """Return the means of ``columns`` over the networks, for each group of ``rows`` with the same values of ``by``.

    ``COLUMN_low`` and ``COLUMN_high`` are the ends of the 95 % t interval, with one degree of freedom less than there
    are networks.
    """
    summaries: list[Row] = []
    for key, group in pd.DataFrame(rows).groupby([*by], sort=False):
        summary: Row = {**dict(zip(by, key, strict=True)), "networks": len(group)}
        for column in columns:
            mean, reach = group[column].mean(), group[column].sem() * stats.t.ppf(0.975, len(group) - 1)
            summary |= {column: mean, f"{column}_low": mean - reach, f"{column}_high": mean + reach}
        summaries.append(summary)
    return summaries


def against(rows: Sequence[Row], reference: str, column: str) -> list[Row]:
    """Return for each score the mean difference of ``column`` from the score ``reference`` on the same network."""
    known = {row["network"]: row[column] for row in rows if row["score"] == reference}
    differences = [row | {"difference": row[column] - known[row["network"]]} for row in rows]
    return means([row for row in differences if row["score"] != reference], ["score"], ["difference"])


def bias(networks: Mapping[str, Sequence[Row]], per_class: Sequence[int]) -> list[Row]:
    """Return the two parts of the bias, in points, for each network, position and number n of ``per_class``."""
    return [
        {
            "network": name,
            "position": row["position"],
            "block": row["block"],
            "images_a_class": n,
            "in_sample": row[f"in_sample_{n}"],
            "inclusion": 100 * (row[f"in_sample_{n}"] - row[f"own_{n}"]),
            "few": 100 * (row[f"own_{n}"] - row[f"many_{n}"]),
        }
        for name, rows in networks.items()
        for n in per_class
        for row in rows
    ]


def flips(networks: Mapping[str, Sequence[Row]], per_class: Sequence[int], epsilon: float) -> list[Row]:
    """Return a row per network and n: sign flips between neighbours, and the cut by in-sample and by held-out CSI."""

    def falls(rows: Sequence[Row], column: str) -> list[bool]:
        return [later[column] < earlier[column] for earlier, later in pairwise(rows)]

    return [
        {
            "network": name,
            "images_a_class": n,
            "sign_flips": sum(map(ne, falls(rows, f"in_sample_{n}"), falls(rows, f"many_{n}"))),
            "cut_in_sample": rows[named(rows, f"in_sample_{n}", epsilon)]["block"],
            "cut_own": rows[named(rows, f"own_{n}", epsilon)]["block"],
            "cut_many": rows[named(rows, f"many_{n}", epsilon)]["block"],
        }
        for name, rows in networks.items()
        for n in per_class
    ]
