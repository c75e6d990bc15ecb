"""The SDK's way to put records before people: ``dataset.records.log`` with its own defaults. Run by bench/push.

Standard input: a JSON object with ``url``, ``api_key``, ``workspace``, ``dataset`` and ``records``, a JSON Lines file
of ``id``, ``fields``, ``metadata``, ``suggestion`` (or null) and ``vectors``. Prints the seconds and CPU seconds of the
call alone: importing the SDK, fetching the dataset and making its record objects are not counted.
"""

# mypy: disable-error-code="import-not-found, no-any-unimported"
from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import argilla as rg


def record(raw: dict[str, Any], question: str) -> Any:
    """One record as the SDK wants it."""
    shown = raw["suggestion"]
    suggestions = []
    if shown is not None:
        suggestions = [rg.Suggestion(question, shown["value"], score=shown["score"], agent=shown["agent"])]
    return rg.Record(
        id=raw["id"],
        fields=raw["fields"],
        metadata=raw["metadata"],
        suggestions=suggestions,
        vectors=raw["vectors"],
    )


def main() -> None:
    """Log once and print the figures."""
    job = json.load(sys.stdin)
    client = rg.Argilla(api_url=job["url"], api_key=job["api_key"])
    dataset = client.datasets(name=job["dataset"], workspace=job["workspace"])
    question = next(iter(dataset.settings.questions)).name
    lines = Path(job["records"]).read_text(encoding="utf-8").splitlines()
    records = [record(json.loads(line), question) for line in lines]
    begun, cpu = time.perf_counter(), time.process_time()
    dataset.records.log(records)
    print(json.dumps({"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
