"""Great Expectations as a contract: suites, verdicts on columns, profiles of good batches.

What any step may use: it knows neither projects nor the lake.
"""
