"""The errors of the bus: one root, and below it what may be tried again and what may not."""

from __future__ import annotations


class BusError(Exception):
    """Root of everything that ``bus`` raises on purpose."""


class RetryableError(BusError):
    """The same call may succeed later: the other side is away, stalled or full."""


class PermanentError(BusError):
    """The same call will fail again: the input or the set-up is wrong."""


class BrokerUnavailable(RetryableError):
    """The broker cannot be reached, or the connection to it was lost."""


class BrokerBlocked(BrokerUnavailable):
    """The broker takes no messages now, for want of memory or disk; nothing was sent."""


class PublishUnconfirmed(BrokerUnavailable):
    """The connection broke, or nothing was confirmed, after messages were sent: they may or may
    not be there. Any other BrokerUnavailable while publishing means that nothing was sent.
    """


class PublishExpired(RetryableError):
    """The deadline passed before it was the message's turn: nothing was sent."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"nothing was sent within {seconds:g} s")


class PublishTimeout(RetryableError):
    """The deadline passed before the broker confirmed; the message may or may not be there.

    Publish again with the same message id: every sink ignores an id that it has seen.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"the broker did not confirm within {seconds:g} s")


class PublishRefused(RetryableError):
    """The broker answered, and said no: a full queue (nack) or no queue at all (returned)."""


class TopologyBroken(RetryableError):
    """An exchange, queue or binding is missing: an event would not reach all its queues."""


class QueueMissing(RetryableError):
    """The broker answered that there is no such queue."""


class BrokerRefused(RetryableError):
    """The broker answered that something is in use, or not empty, and did nothing."""


class QueueInUse(RetryableError):
    """A queue is not removed because messages or consumers are on it; nothing was changed."""


class StoreUnavailable(RetryableError):
    """A store (MongoDB, Redis) did not answer, or cannot do now what was asked of it."""


class InvalidEvent(PermanentError):
    """Bytes that are no event of ours; ``str()`` of it says where and what is accepted."""


class InvalidMessage(PermanentError):
    """A message that cannot be written in the broker's protocol; nothing of it was sent."""


class InvalidRpcMessage(PermanentError):
    """Something on a request or reply queue that is no request or reply of ours."""


class ReplyTooLarge(PermanentError):
    """An application's answer that is larger than a reply may be."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the answer is larger than {limit} bytes")


class InvalidTicket(PermanentError):
    """A socket ticket that is malformed, expired or not signed by a key of ours."""


class SettingError(PermanentError):
    """A setting from the environment that cannot be used."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name}: {problem}")


class QueueBusy(RetryableError):
    """Another operator works on the queue; two would each see a part of it."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        super().__init__(
            f"{queue} is in the hands of another command; try again when that has ended "
            "(one that was killed is in the way for a minute at most)"
        )


class SubscriptionCancelled(BrokerUnavailable):
    """The broker ended a subscription: its queue was deleted, or moved to another node."""


def reason(error: BaseException) -> str:
    """``error`` in words: never empty, as the text of many a library's error is."""
    if text := str(error).strip():
        return text
    if cause := error.__cause__ or error.__context__:
        return reason(cause)
    return "timed out" if isinstance(error, TimeoutError) else type(error).__name__
