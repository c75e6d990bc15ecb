"""A search engine for Argilla 2.8 that answers from Argilla's own SQLite database, so no Elasticsearch is needed.

`python -m argilla_sqlite …` takes the arguments of `python -m argilla_server …` and runs them with the engine
registered; `python -m argilla_sqlite.worker` runs the background jobs. README.md says what differs from Elasticsearch.
"""

# The engine reads Argilla's tables and patches two of its functions, so it is written against one exact version.
SUPPORTED_ARGILLA_VERSION = "2.8.0"
