"""How long the faults last."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """Counts, and times in seconds; ``outage`` is that of a store, ``stall`` that of the broker or
    of Redis. ``shown`` is how long it may take until all lists are right after a fault."""

    kills: int
    broker_kills: int
    closings: int
    stall: float
    outage: float
    poison: int
    sockets: int
    shown: float


SHORT = Form(
    kills=5,
    broker_kills=1,
    closings=3,
    stall=7,
    outage=4,
    poison=3,
    sockets=300,
    shown=60,
)
LONG = Form(
    kills=25,
    broker_kills=3,
    closings=10,
    stall=20,
    outage=60,
    poison=20,
    sockets=5_000,
    shown=10,
)
