"""Watch a bucket's event notifications from the triggerer: raises an asset event when objects land.

The event is a hint that starts ``ingest`` earlier, and holds no worker slot. Messages are deleted from the queue once
their event was handed over, so a killed triggerer repeats them; one that is lost costs nothing but time, because ingest
looks for itself, on a cron. One queue serves one landing folder: what it says of other places is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from asgiref.sync import sync_to_async
from botocore.exceptions import BotoCoreError, ClientError

from include.ingestion.events import MalformedEventError, created_keys

MAX_BACKOFF_SECONDS = 60.0
MESSAGES_AT_ONCE = 10  # the most SQS gives
MAX_KEYS = 200  # in one event: they are stored in Airflow's database


class S3EventsTrigger(BaseEventTrigger):
    """Fires ``{"bucket", "keys"}`` when objects were created in a folder; messages that come together make one event.

    It goes on for ever: a queue that is away or refuses us costs one warning and a growing pause, and a message that is
    no S3 event notification is logged with the reason and deleted.

    :param aws_conn_id: id of the S3 connection, whose keys open the queue, too. Its extra
        ``service_config.sqs.endpoint_url`` says where SQS is; by default where ``queue_url`` says.
    :param queue_url: address of the queue.
    :param bucket: bucket of the landing folder.
    :param prefix: the landing folder, with its final ``/``.
    :param wait_seconds: how long one request waits for messages (at most 20); stopping the triggerer may take as long.
    """

    def __init__(self, aws_conn_id: str, queue_url: str, bucket: str, prefix: str, wait_seconds: int = 5) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's triggers are untyped
        self.aws_conn_id = aws_conn_id
        self.queue_url = queue_url
        self.bucket = bucket
        self.prefix = prefix
        self.wait_seconds = wait_seconds
        self._complaint = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments: equal for equal watches, so that DAGs share one trigger."""
        return (
            "labelwheel_events.S3EventsTrigger",
            {
                "aws_conn_id": self.aws_conn_id,
                "queue_url": self.queue_url,
                "bucket": self.bucket,
                "prefix": self.prefix,
                "wait_seconds": self.wait_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for messages, fire, delete them; never return."""
        client: Any = None
        pause = 1.0
        while True:
            try:
                client = client or await sync_to_async(self._make_client)()
                messages, keys = await self._collect(client)
                if keys:
                    event = {"bucket": self.bucket, "keys": keys}
                    yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                await asyncio.to_thread(self._delete, client, messages)
            except (BotoCoreError, ClientError, AirflowException, AirflowRuntimeError, ValueError) as error:
                client = None  # the connection may have been corrected meanwhile
                self._complain(f"{type(error).__name__}: {error}")
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_BACKOFF_SECONDS)
            else:
                self._complaint, pause = "", 1.0

    async def _collect(self, client: Any) -> tuple[list[dict[str, Any]], list[str]]:
        """Messages that are there together, and the keys they speak of."""
        messages: list[dict[str, Any]] = []
        keys: dict[str, None] = {}
        wait_seconds = self.wait_seconds
        while len(keys) < MAX_KEYS and (some := await asyncio.to_thread(self._receive, client, wait_seconds)):
            messages += some
            for message in some:
                keys |= dict.fromkeys(self._keys(message))
            wait_seconds = 0
        return messages, list(keys)[:MAX_KEYS]

    def _keys(self, message: dict[str, Any]) -> list[str]:
        try:
            return created_keys(message.get("Body", ""), self.bucket, self.prefix)
        except MalformedEventError as error:
            self.log.warning("Message %s is deleted unread: %s", message.get("MessageId"), error)
            return []

    def _make_client(self) -> Any:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        from botocore.config import Config

        hook: Any = AwsGenericHook(aws_conn_id=self.aws_conn_id, client_type="sqs")
        address = urlsplit(self.queue_url)
        if not (address.scheme in ("http", "https") and address.hostname):
            raise ValueError(f"source.events_queue_url {self.queue_url!r} is no address of a queue")
        endpoint_url = hook.service_config.get("endpoint_url") or f"{address.scheme}://{address.netloc}"
        return hook.get_session(region_name=hook.conn_region_name or "us-east-1").client(
            "sqs",
            endpoint_url=endpoint_url,
            config=Config(connect_timeout=5, read_timeout=self.wait_seconds + 10, retries={"total_max_attempts": 2}),
        )

    def _receive(self, client: Any, wait_seconds: int) -> list[dict[str, Any]]:
        reply = client.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=MESSAGES_AT_ONCE, WaitTimeSeconds=wait_seconds
        )
        found: list[dict[str, Any]] = reply.get("Messages", [])
        return found

    def _delete(self, client: Any, messages: list[dict[str, Any]]) -> None:
        """Remove messages; one that cannot be removed comes again, and does no harm."""
        for at in range(0, len(messages), MESSAGES_AT_ONCE):
            some = messages[at : at + MESSAGES_AT_ONCE]
            entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(some)]
            client.delete_message_batch(QueueUrl=self.queue_url, Entries=entries)

    def _complain(self, message: str) -> None:
        """Once per trouble, not once per look."""
        if message != self._complaint:
            self.log.warning("Not watching queue %s for now: %s", self.queue_url, message)
            self._complaint = message
