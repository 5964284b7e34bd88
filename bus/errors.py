"""All errors that the bus raises on purpose.

* BusError
    * RetryableError: the same call may succeed later
        * BrokerUnavailable
            * BrokerBlocked
            * PublishUnconfirmed
            * SubscriptionCancelled
        * BrokerRefused
        * PublishExpired
        * PublishRefused
        * PublishTimeout
        * QueueBusy
        * QueueInUse
        * QueueMissing
        * StoreUnavailable
        * TopologyBroken
    * PermanentError: the same call will fail again
        * InvalidEvent
        * InvalidMessage
        * InvalidRpcMessage
        * InvalidTicket
        * ReplyTooLarge
        * SettingError
"""

from __future__ import annotations


class BusError(Exception):
    """Root of everything that ``bus`` raises on purpose."""


class RetryableError(BusError):
    """The same call may succeed later: a server is unreachable, stalled or full."""


class BrokerUnavailable(RetryableError):
    """The broker cannot be reached, or the connection to it was lost."""


class BrokerBlocked(BrokerUnavailable):
    """The broker accepts no messages now, for want of memory or disk; nothing was sent."""


class PublishUnconfirmed(BrokerUnavailable):
    """The connection broke, or no confirm came, after messages were sent: the broker may or may
    not have them. Any other BrokerUnavailable while publishing means that nothing was sent.
    """


class SubscriptionCancelled(BrokerUnavailable):
    """The broker ended a subscription: its queue was deleted, or moved to another node."""


class BrokerRefused(RetryableError):
    """The broker answered that something is in use, or not empty, and did nothing."""


class PublishExpired(RetryableError):
    """The deadline passed before it was the message's turn: nothing was sent."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"nothing was sent within {seconds:g} s")


class PublishRefused(RetryableError):
    """The broker refused a message (nack: a queue is full) or returned it (no queue takes it)."""


class PublishTimeout(RetryableError):
    """The deadline passed before the broker confirmed: it may or may not have the message.

    Publish again with the same message id: every sink ignores an id that it has seen.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"the broker did not confirm within {seconds:g} s")


class QueueBusy(RetryableError):
    """Another operator's command holds the lock on the queue."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        super().__init__(
            f"{queue} is locked by another command; retry when it has finished "
            "(the lock of a killed command expires within a minute)"
        )


class QueueInUse(RetryableError):
    """A queue is not removed, because it has messages or consumers; nothing was changed."""


class QueueMissing(RetryableError):
    """The broker answered that there is no such queue."""


class StoreUnavailable(RetryableError):
    """A store (MongoDB, Redis) did not answer, or cannot do now what was asked of it."""


class TopologyBroken(RetryableError):
    """An exchange, queue or binding is missing: an event would not reach all its queues."""


class PermanentError(BusError):
    """The same call will fail again: the input or the set-up is wrong."""


class InvalidEvent(PermanentError):
    """Bytes that are not an event; the text says what is wrong, where, and what is accepted."""


class InvalidMessage(PermanentError):
    """A message that the broker's protocol cannot carry; nothing of it was sent."""


class InvalidRpcMessage(PermanentError):
    """A message on a request or reply queue that is not a request or a reply."""


class InvalidTicket(PermanentError):
    """A socket ticket that is malformed, expired, or signed by no key of the key set."""


class ReplyTooLarge(PermanentError):
    """An application's response is larger than a reply may be."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the answer is larger than {limit} bytes")


class SettingError(PermanentError):
    """A setting from the environment cannot be used."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name}: {problem}")


def reason(error: BaseException) -> str:
    """``error`` in words: never empty, as the text of many a library's error is."""
    if text := str(error).strip():
        return text
    if cause := error.__cause__ or error.__context__:
        return reason(cause)
    return "timed out" if isinstance(error, TimeoutError) else type(error).__name__
