"""Rivals of bench/aggregate, in their own environment: crowd-kit's aggregators and cleanlab's CROWDLAB.

Standard input: JSON with ``draws``, the path of an .npz file holding arrays ``items_<i>``, ``workers_<i>``,
``labels_<i>`` and, for CROWDLAB, ``probabilities_<i>`` of every draw; ``names``, the rivals asked; ``n``, the draws;
and ``output``, where an .npz file with the class of every item is written as ``<name>_<i>``.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import crowdkit.aggregation
import numpy as np
import pandas as pd
from cleanlab.multiannotator import get_label_quality_multiannotator

NO_ANSWER = -1


def main() -> int:
    """Label every draw with every rival; print the seconds each took."""
    warnings.simplefilter("ignore")  # the rivals' own, about their own code
    job = json.load(sys.stdin)
    draws = np.load(job["draws"])
    found: dict[str, Any] = {}
    seconds = dict.fromkeys(job["names"], 0.0)
    for number in range(job["n"]):
        one = {key: draws[f"{key}_{number}"] for key in ("items", "workers", "labels")}
        for name in job["names"]:
            began = time.perf_counter()
            if name == "cleanlab":
                found[f"{name}_{number}"] = crowdlab(one, draws[f"probabilities_{number}"])
            else:
                found[f"{name}_{number}"] = crowd_kit(name, one)
            seconds[name] += time.perf_counter() - began
    np.savez(job["output"], **found)
    print(json.dumps(seconds))
    return 0


def crowd_kit(name: str, answers: dict[str, Any]) -> Any:
    """The class of every item by an aggregator of crowd-kit with its own defaults, shape (N,)."""
    frame = pd.DataFrame({"task": answers["items"], "worker": answers["workers"], "label": answers["labels"]})
    labels = getattr(crowdkit.aggregation, name)().fit_predict(frame)
    return labels.reindex(range(int(answers["items"].max()) + 1), fill_value=NO_ANSWER).to_numpy(dtype=np.int64)


def crowdlab(answers: dict[str, Any], probabilities: Any) -> Any:
    """The consensus class by CROWDLAB, shape (N,)."""
    wide = np.full((len(probabilities), int(answers["workers"].max()) + 1), np.nan)
    wide[answers["items"], answers["workers"]] = answers["labels"]
    frame = pd.DataFrame(wide).dropna(axis=1, how="all")
    result = get_label_quality_multiannotator(
        frame, probabilities, return_detailed_quality=False, return_annotator_stats=False, verbose=False
    )
    return result["label_quality"]["consensus_label"].to_numpy(dtype=np.int64)


if __name__ == "__main__":
    raise SystemExit(main())
