"""Whether this process is about to end, for requests that would wait."""

from __future__ import annotations

import threading

stopping = threading.Event()
