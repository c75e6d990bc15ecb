"""Values Airflow imports by path, because its configuration can only hold text."""

# One writer at a time: wait for it instead of failing with 'database is locked'.
SQLITE_CONNECT_ARGS = {"timeout": 30}
