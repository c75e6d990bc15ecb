"""Prepare Argilla's database: schema, write-ahead log, accounts. Runs in the Argilla environment, once per start.

One process instead of three command line calls (each spends seconds on imports), and the passwords come by standard
input: the command line would show them to everybody on the machine. Idempotent; existing accounts are left alone.

Standard input is JSON: ``[{"username", "role", "password", "api_key"}, …]``.
"""

# mypy: disable-error-code="import-not-found, no-untyped-call"
from __future__ import annotations

import asyncio
import json
import sys


async def create_accounts(accounts: list[dict[str, str]]) -> None:
    """Create the accounts that do not exist yet."""
    from argilla_server.contexts.accounts import get_user_by_username, hash_password
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.models import User, UserRole

    async with AsyncSessionLocal() as session:
        for account in accounts:
            if await get_user_by_username(session, account["username"]):
                continue
            await User.create(
                session,
                first_name=account["username"],
                username=account["username"],
                role=UserRole(account["role"]),
                password_hash=hash_password(account["password"]),
                api_key=account["api_key"],
            )


def main() -> None:
    """Migrate, then create accounts."""
    accounts = json.load(sys.stdin)
    from argilla_server.cli.database.migrate import migrate_db
    from argilla_server.database import sync_engine
    from sqlalchemy import text

    migrate_db("head")
    with sync_engine.connect() as connection:
        # Readers do not block the writer; the mode is kept in the file.
        connection.execute(text("PRAGMA journal_mode=WAL"))
    asyncio.run(create_accounts(accounts))


if __name__ == "__main__":
    main()
