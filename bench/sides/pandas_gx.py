"""The obvious way: ``pandas.read_json``, one Great Expectations validation with complete results, ``to_parquet``.

Accepted rows and quarantined rows are written as two files, told apart by the row indices of the complete results.
"""

from __future__ import annotations

import logging
import os
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before the import: it would report to its makers

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd

from bench.sides.clock import Job, measure


def main() -> None:
    """Measure one run."""
    job = Job.read()
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("mails").add_dataframe_asset("mails")
    definition = asset.add_batch_definition_whole_dataframe("whole")
    options = job.storage_options()

    def work(prefix: str, keys: list[str], output: str) -> dict[str, Any]:
        # Without convert_dates=False pandas would turn the times into numbers, and the regular expression would fail.
        frames = (
            pd.read_json(f"s3://{job.landing}/{key}", lines=True, convert_dates=False, storage_options=options)
            for key in keys
        )
        frame = pd.concat(frames, ignore_index=True)
        suite = gx.ExpectationSuite("mails", expectations=[expectation(one) for one in job.settings["expectations"]])
        batch = definition.get_batch(batch_parameters={"dataframe": frame})
        results = batch.validate(suite, result_format="COMPLETE")
        bad: set[int] = set()
        for result in results.results:
            if result.exception_info.get("raised_exception"):
                raise RuntimeError(f"Great Expectations could not evaluate {result.expectation_config}")
            bad.update(result.result["unexpected_index_list"])
        quarantined = frame.index.isin(bad)
        target = f"s3://{job.lake}/{output}"
        frame[~quarantined].to_parquet(f"{target}/accepted.parquet", compression="zstd", storage_options=options)
        frame[quarantined].to_parquet(f"{target}/quarantine.parquet", compression="zstd", storage_options=options)
        return {"rows": len(frame), "quarantined": int(quarantined.sum())}

    measure(work, job)


def expectation(settings: dict[str, Any]) -> Any:
    """An expectation from its name and arguments."""
    name = "".join(part.capitalize() for part in settings["type"].split("_"))
    return getattr(gxe, name)(**settings["kwargs"])


if __name__ == "__main__":
    main()
