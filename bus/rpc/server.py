"""The server: takes held requests from their queue and publishes the answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing

from bus.consuming.pause import PauseWatch
from bus.consuming.resubscribe import Attempt, resubscribing
from bus.errors import (
    InvalidMessage,
    InvalidRpcMessage,
    PublishRefused,
    ReplyTooLarge,
    RetryableError,
)
from bus.message import Delivery
from bus.publishing import Publisher
from bus.publishing.publisher import DEFAULT_TIMEOUT
from bus.rpc.messages import (
    SAFE_METHODS,
    Failure,
    HeldRequest,
    Reply,
    answer_message,
    decode_request,
    encode,
)
from bus.runtime import health
from bus.runtime.backoff import Backoff
from bus.runtime.metrics import PAUSED, SUBSCRIPTIONS
from bus.topology import WEB_REQUESTS
from bus.transport import Subscription

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5

Handler = Callable[[HeldRequest], Reply]


class RpcServer:
    """Answers one request at a time; run one server per thread.

    ``handler`` makes the reply; an exception of it is answered as a failure. ``instance`` tells
    apart all servers of one broker where the broker is Redis. While the queue is paused the
    server takes nothing, and requests wait there.
    """

    def __init__(
        self,
        *,
        url: str,
        handler: Handler,
        publisher: Publisher,
        stop: threading.Event,
        instance: str = "1",
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._handler = handler
        self._publisher = publisher
        self._stop = stop
        self._instance = instance
        self._on_connected = on_connected
        self._watch = PauseWatch(url, WEB_REQUESTS)
        self._paused = PAUSED.labels(WEB_REQUESTS.name)
        self._status = health.CONNECTING

    def status(self) -> str:
        """“ok” while it takes requests, else “paused” or “connecting”. Call it from any thread."""
        return self._status

    def run(self) -> None:
        """Serves until stopped; connects again whenever the broker is lost."""
        with closing(self._watch):
            for attempt in resubscribing(self._stop):
                with attempt:
                    self._rest()
                    self._consume(attempt)

    def _rest(self) -> None:
        """Returns when not paused, or when stopped."""
        self._watch.rest(self._stop, self._on_paused)
        self._status = health.CONNECTING
        self._paused.set(0)

    def _on_paused(self) -> None:
        self._status = health.PAUSED
        self._paused.set(1)
        self._on_connected()

    def _consume(self, attempt: Attempt) -> None:
        if self._stop.is_set():
            return
        source = attempt.subscribe(self._url, WEB_REQUESTS, prefetch=1, instance=self._instance)
        with closing(source), SUBSCRIPTIONS.labels(WEB_REQUESTS.name).track_inprogress():
            self._status = health.OK
            self._on_connected()
            try:
                self._serve(source)
            finally:
                self._status = health.CONNECTING

    def _serve(self, source: Subscription) -> None:
        """Serves until stopped or paused. The acknowledgement of a request brings the next one."""
        deliveries: list[Delivery] = []
        while not self._stop.is_set() and not self._watch.is_paused():
            source.ack(deliveries)
            deliveries = source.receive(1, POLL_SECONDS)
            self._take_each(deliveries)
        source.cancel()
        if not deliveries:
            # One may be on its way. If it went back to the queue, a POST could not be run any more.
            deliveries = source.receive(1, 0)
            self._take_each(deliveries)
        source.ack(deliveries)

    def _take_each(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._take(delivery)

    def _take(self, delivery: Delivery) -> None:
        try:
            request = decode_request(delivery)
        except InvalidRpcMessage as error:
            logger.error("dropped from %s: %s", WEB_REQUESTS.name, error)
            return
        if request.deadline <= time.time():
            logger.warning("not run: %s expired on the queue", delivery.correlation_id)
            return
        self._publish(delivery, self._answer(request, delivery.redelivered), request.deadline)

    def _answer(self, request: HeldRequest, redelivered: bool) -> bytes:
        if redelivered and request.method not in SAFE_METHODS:
            return encode(Failure(code="worker_lost"))
        try:
            return encode(self._handler(request))
        except ReplyTooLarge as error:
            logger.error("%s %s: %s", request.method, request.target, error)
            return encode(Failure(code="reply_too_large"))
        except Exception:
            logger.exception("%s %s failed", request.method, request.target)
            return encode(Failure(code="application_failed"))

    def _publish(self, delivery: Delivery, body: bytes, deadline: float) -> None:
        """Publishes an answer, and retries as long as its caller waits."""
        backoff = Backoff()
        while (remaining := deadline - time.time()) > 0:
            try:
                message = answer_message(delivery, body, remaining)
                self._publisher.publish(message, timeout=min(remaining, DEFAULT_TIMEOUT))
                return
            except PublishRefused as error:
                logger.warning("the caller of %s is gone: %s", delivery.correlation_id, error)
                return
            except InvalidMessage as error:
                # No gateway sends such an id; the worker must survive it.
                logger.error("no answer to %s: %s", delivery.correlation_id, error)
                return
            except RetryableError as error:
                logger.warning("answer to %s: %s", delivery.correlation_id, error)
                time.sleep(min(backoff.next(), remaining))
        logger.warning("the answer to %s came too late", delivery.correlation_id)
