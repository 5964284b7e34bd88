"""Held requests: HTTP requests that wait on a queue, and the answers that come back.

All requests go through one queue, ``web.requests``; the answers to one caller come back on one
queue of its own, told apart by their correlation id. What holds for both ends:

* A request carries its deadline. After it the caller has given up, so nobody runs it any more.
* A request is acknowledged when its answer is published. If a worker dies before, the broker
  delivers the request again: a safe method (RFC 9110, 9.2.1) is run again, any other is
  answered with a failure, for it may have been run already.
* Requests and answers are not persistent. A broker that crashed may forget that it delivered a
  request before; none outlives it as one that was not.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing

from bus.consuming.pause import PauseWatch
from bus.errors import (
    BrokerUnavailable,
    InvalidMessage,
    InvalidRpcMessage,
    PublishRefused,
    PublishUnconfirmed,
    ReplyTooLarge,
    RetryableError,
)
from bus.message import Delivery
from bus.publishing.publisher import DEFAULT_TIMEOUT, Publisher
from bus.rpc_messages import (
    SAFE_METHODS,
    Answer,
    Failure,
    HeldRequest,
    Reply,
    answer_message,
    decode_answer,
    decode_request,
    encode,
    request_message,
)
from bus.runtime import health
from bus.runtime.backoff import Backoff
from bus.runtime.metrics import PAUSED, SUBSCRIPTIONS
from bus.topology import WEB_REQUESTS, Queue, reply_queue
from bus.transport.factory import subscribe
from bus.transport.interfaces import Subscription

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
REPLIES_AT_ONCE = 100

Handler = Callable[[HeldRequest], Reply]


class RpcClient:
    """The end that asks: one thread takes in the answers for all callers.

    The broker may come and go; answers wait in the reply queue meanwhile.
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
        """Stops taking in answers and closes the connections."""
        self._stop.set()
        self._thread.join(DEFAULT_TIMEOUT)
        self._publisher.close()

    def is_connected(self) -> bool:
        """Whether answers can come in now."""
        return self._connected.is_set()

    def ping(self) -> Future[None]:
        """Done when requests can be published; raises a RetryableError when they cannot."""
        return self._publisher.submit()

    def send(self, request: HeldRequest, priority: int) -> Future[Answer]:
        """Puts ``request`` on the queue; the answer comes into the future.

        A RetryableError in the future means that the request certainly is not on the queue;
        while that is unknown the future stays open. Cancel it at the deadline, or when nobody
        wants the answer any more. An InvalidRpcMessage means an answer that cannot be read.
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
            logger.debug("nobody waits for the answer to %s", call_id)
        elif isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _receive(self) -> None:
        def take_in(source: Subscription) -> None:
            self._connected.set()
            try:
                while not self._stop.is_set():
                    deliveries = source.receive(REPLIES_AT_ONCE, POLL_SECONDS)
                    for delivery in deliveries:
                        self._settle(delivery.correlation_id, decode_answer(delivery))
                    source.ack(deliveries)
            finally:
                self._connected.clear()

        _subscribe(self._url, self._replies, self._stop, take_in, prefetch=REPLIES_AT_ONCE)


class RpcServer:
    """The end that answers, one request at a time; run one per thread.

    ``handler`` makes the reply; what it raises is answered as a failure. ``instance`` tells
    apart all servers of one broker where the broker is Redis. While the queue is paused nothing
    is taken, and requests wait there.
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
        """“ok” while it takes requests, else “paused” or “connecting”. For any thread."""
        return self._status

    def run(self) -> None:
        """Serves until stopped; connects again whenever the broker was lost."""
        with closing(self._watch):
            _subscribe(
                self._url,
                WEB_REQUESTS,
                self._stop,
                self._serve,
                prefetch=1,
                instance=self._instance,
                before=self._rest,
            )

    def _rest(self) -> None:
        self._watch.rest(self._stop, self._on_paused)
        self._status = health.CONNECTING
        self._paused.set(0)

    def _on_paused(self) -> None:
        self._status = health.PAUSED
        self._paused.set(1)
        self._on_connected()

    def _serve(self, source: Subscription) -> None:
        self._status = health.OK
        self._on_connected()
        try:
            with SUBSCRIPTIONS.labels(WEB_REQUESTS.name).track_inprogress():
                self._serve_from(source)
        finally:
            self._status = health.CONNECTING

    def _serve_from(self, source: Subscription) -> None:
        """Returns when stopped or paused."""
        goes_on = True
        while goes_on:
            deliveries = source.receive(1, POLL_SECONDS)
            self._take_each(deliveries)
            goes_on = not self._stop.is_set() and not self._watch.is_paused()
            if not goes_on:
                # Before the acknowledgement, which would bring the next request.
                source.cancel()
                if not deliveries:
                    # One that was on its way: if it went back, a POST could not be run any more.
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
        """Publishes an answer, again and again while its caller waits: it has one use only."""
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
                # No caller of ours has such an id; it must not cost the worker its life.
                logger.error("no answer to %s: %s", delivery.correlation_id, error)
                return
            except RetryableError as error:
                logger.warning("answer to %s: %s", delivery.correlation_id, error)
                time.sleep(min(backoff.next(), remaining))
        logger.warning("the answer to %s came too late", delivery.correlation_id)


def _subscribe(
    url: str,
    queue: Queue,
    stop: threading.Event,
    use: Callable[[Subscription], None],
    *,
    prefetch: int,
    instance: str = "1",
    before: Callable[[], None] = lambda: None,
) -> None:
    """Calls ``use`` with a source, and with a new one after the broker was lost, until ``stop``.

    ``before`` is called before each subscription.
    """
    backoff = Backoff()
    while not stop.is_set():
        try:
            before()
            source = subscribe(url, queue, prefetch=prefetch, instance=instance)
            backoff.reset()
            logger.info("consuming %s", queue.name)
            try:
                use(source)
            finally:
                source.close()
        except BrokerUnavailable as error:
            delay = backoff.next()
            logger.warning("%s; next attempt in %.1f s", error, delay)
            stop.wait(delay)
