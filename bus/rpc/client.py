"""The client: sends held requests and receives the answers."""

from __future__ import annotations

import logging
import threading
import uuid
from concurrent.futures import Future
from contextlib import closing

from bus.consuming.resubscribe import resubscribing
from bus.errors import PublishUnconfirmed
from bus.publishing import Publisher
from bus.publishing.publisher import DEFAULT_TIMEOUT
from bus.rpc.messages import Answer, HeldRequest, decode_answer, request_message
from bus.topology import WEB_REQUESTS, reply_queue
from bus.transport import Subscription

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# An answer may have MAX_REPLY_BYTES.
REPLIES_AT_ONCE = 8


class RpcClient:
    """Sends held requests; one thread receives the answers for all callers.

    The broker may be lost and found again; answers wait in the reply queue until then.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._replies = reply_queue(uuid.uuid4().hex)
        self._publisher = Publisher(url, [WEB_REQUESTS, self._replies])
        self._pending: dict[str, Future[Answer]] = {}
        self._connected = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="replies", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stops receiving answers and closes the connections."""
        self._stop.set()
        self._thread.join(DEFAULT_TIMEOUT)
        self._publisher.close()

    def is_connected(self) -> bool:
        """Whether answers can arrive now."""
        return self._connected.is_set()

    def ping(self) -> Future[None]:
        """Done when requests can be published; raises a RetryableError when they cannot."""
        return self._publisher.submit_check()

    def send(self, request: HeldRequest, priority: int) -> Future[Answer]:
        """Puts ``request`` on the queue; the answer comes into the future.

        A RetryableError in the future means that the request is certainly not on the queue;
        while that is unknown the future stays open. Cancel it at the deadline, or when the answer
        is no longer wanted. An InvalidRpcMessage means that the answer cannot be decoded.
        """
        call_id = uuid.uuid4().hex
        answer: Future[Answer] = Future()
        self._pending[call_id] = answer
        message = request_message(request, call_id, self._replies, priority)
        publishing = self._publisher.submit(message)
        publishing.add_done_callback(lambda done: self._published(call_id, done))
        answer.add_done_callback(lambda _: self._forget(call_id, publishing))
        return answer

    def _published(self, call_id: str, publishing: Future[None]) -> None:
        error = None if publishing.cancelled() else publishing.exception()
        if isinstance(error, PublishUnconfirmed):
            logger.warning("request %s may be on its queue: %s", call_id, error)
        elif error:
            self._settle(call_id, error)

    def _forget(self, call_id: str, publishing: Future[None]) -> None:
        self._pending.pop(call_id, None)
        publishing.cancel()

    def _settle(self, call_id: str | None, outcome: Answer | BaseException) -> None:
        """Gives ``outcome`` to the caller, unless it has gone."""
        future = self._pending.pop(call_id or "", None)
        if future is None or not future.set_running_or_notify_cancel():
            logger.debug("the answer to %s is no longer awaited", call_id)
        elif isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _receive(self) -> None:
        for attempt in resubscribing(self._stop):
            with attempt:
                source = attempt.subscribe(self._url, self._replies, prefetch=REPLIES_AT_ONCE)
                with closing(source):
                    self._receive_from(source)

    def _receive_from(self, source: Subscription) -> None:
        """Returns when stopped."""
        self._connected.set()
        try:
            while not self._stop.is_set():
                deliveries = source.receive(REPLIES_AT_ONCE, POLL_SECONDS)
                for delivery in deliveries:
                    self._settle(delivery.correlation_id, decode_answer(delivery))
                source.ack(deliveries)
        finally:
            self._connected.clear()
