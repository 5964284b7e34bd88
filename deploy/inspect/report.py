"""What ``chatbus status`` has seen at one moment, and what follows from two of them. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from bus import topology

ASKED_ONCE = "asked once only"


class QueueSample(msgspec.Struct, frozen=True, kw_only=True):
    """``waiting`` counts what no consumer has taken yet; None: there is no such queue.

    ``consumers`` is what the broker counts; a broker on Redis does not know.
    """

    name: str
    waiting: int | None
    consumers: int | None = None
    dead_letters: int | None = None
    paused: bool = False


class StoreSample(msgspec.Struct, frozen=True, kw_only=True):
    """A server: ``problem`` says why it does not answer, or that its URL is not set."""

    name: str
    milliseconds: float | None = None
    problem: str | None = None
    configured: bool = True


class ProcessSample(msgspec.Struct, frozen=True, kw_only=True):
    """A process as its ops listener describes it; ``problem``: the listener does not answer.

    By queue: ``subscriptions`` held, messages ``settled`` (consumed or dead-lettered) since the
    process started, and the age of the ``oldest`` one that is not processed, in seconds. Of a
    bridge: open ``sockets``, and the ``rooms`` that they follow.
    """

    name: str
    address: str
    problem: str | None = None
    checks: Mapping[str, str] = {}
    version: str | None = None
    started: float | None = None
    subscriptions: Mapping[str, float] = {}
    settled: Mapping[str, float] = {}
    oldest: Mapping[str, float] = {}
    sockets: int | None = None
    rooms: int | None = None

    @property
    def failing(self) -> dict[str, str]:
        return {k: v for k, v in self.checks.items() if v not in ("ok", "paused")}


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """``time`` is in seconds since 1970, when the broker was asked for its queues."""

    time: float
    queues: tuple[QueueSample, ...] = ()
    stores: tuple[StoreSample, ...] = ()
    processes: tuple[ProcessSample, ...] = ()


class QueueReport(msgspec.Struct, frozen=True, kw_only=True):
    """Rates are in messages a second; None is unknown: ``unknown`` says why."""

    name: str
    waiting: int | None
    consumers: int | None
    paused: bool
    dead_letters: int | None
    in_rate: float | None = None
    out_rate: float | None = None
    oldest_seconds: float | None = None
    unknown: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown. ``problems`` is empty when all is well."""

    time: float
    queues: tuple[QueueReport, ...]
    stores: tuple[StoreSample, ...]
    processes: tuple[ProcessSample, ...]
    problems: tuple[str, ...]


def compare(before: Snapshot, after: Snapshot) -> Report:
    """The state ``after``, with the rates since ``before``."""
    return Report(
        time=after.time,
        queues=tuple(_queue(before, after, queue) for queue in after.queues),
        stores=after.stores,
        processes=after.processes,
        problems=tuple(_problems(after)),
    )


def _queue(before: Snapshot, after: Snapshot, queue: QueueSample) -> QueueReport:
    report = QueueReport(
        name=queue.name,
        waiting=queue.waiting,
        consumers=queue.consumers,
        paused=queue.paused,
        dead_letters=queue.dead_letters,
        oldest_seconds=_oldest(after, queue),
    )
    settled = _settled(before, after, queue.name)
    why = _why_unknown(before, after, queue)
    if why or settled is None:
        return msgspec.structs.replace(report, unknown=why or ASKED_ONCE)
    seconds = after.time - before.time
    earlier = _waiting(before, queue.name)
    out_rate = settled / seconds
    growth = ((queue.waiting or 0) - earlier) / seconds
    return msgspec.structs.replace(report, out_rate=out_rate, in_rate=max(0.0, out_rate + growth))


def _why_unknown(before: Snapshot, after: Snapshot, queue: QueueSample) -> str | None:
    """Rates are known only when every consumer that the broker counts has answered twice."""
    consumers = {name for name, q in topology.CONSUMERS.items() if q.name == queue.name}
    if not consumers:
        return "nothing consumes it"
    if queue.waiting is None or after.time <= before.time:
        return "no such queue" if queue.waiting is None else ASKED_ONCE
    for process in after.processes:
        if process.name in consumers and process.problem:
            return f"{process.address} does not answer"
    asked = sum(process.subscriptions.get(queue.name, 0) for process in after.processes)
    if queue.consumers is not None and asked < queue.consumers:
        return f"{asked:g} of {queue.consumers} consumers are in OPS_TARGETS"
    if queue.consumers is None and not asked:
        return "no consumer is in OPS_TARGETS"
    return None


def _settled(before: Snapshot, after: Snapshot, queue: str) -> float | None:
    """How many messages left the queue; a process that started in between began at 0. None if an
    older process did not answer ``before``.
    """
    earlier = {(process.address, process.started): process for process in before.processes}
    total = 0.0
    for process in after.processes:
        total += process.settled.get(queue, 0.0)
        if known := earlier.get((process.address, process.started)):
            total -= known.settled.get(queue, 0.0)
        elif queue in process.settled and (process.started or 0.0) < before.time:
            return None
    return total


def _waiting(snapshot: Snapshot, queue: str) -> int:
    return next((q.waiting or 0 for q in snapshot.queues if q.name == queue), 0)


def _oldest(after: Snapshot, queue: QueueSample) -> float | None:
    ages = [p.oldest[queue.name] for p in after.processes if queue.name in p.oldest]
    return max(ages, default=0.0 if queue.waiting == 0 else None)


def _problems(after: Snapshot) -> Iterator[str]:
    for store in after.stores:
        if store.configured and store.problem:
            yield f"{store.name}: {store.problem}"
    for queue in after.queues:
        yield from _queue_problems(queue)
    for process in after.processes:
        if process.problem:
            yield f"{process.name} at {process.address}: {process.problem}"
        for check, outcome in process.failing.items():
            yield f"{process.name} at {process.address}: {check} is {outcome}"


def _queue_problems(queue: QueueSample) -> Iterator[str]:
    needed = queue.name in {queue.name for queue in topology.EVENT_QUEUES}
    if needed and queue.waiting is None:
        yield f"{queue.name} is missing; run: chatbus topology apply"
    elif queue.consumers == 0 and (needed or queue.waiting) and not queue.paused:
        yield f"{queue.name} has no consumer"
    if queue.dead_letters:
        letters = f"{queue.dead_letters:,} dead letter{'s'[: queue.dead_letters > 1]}"
        yield f"{queue.name} has {letters}; run: chatbus deadletters list"
