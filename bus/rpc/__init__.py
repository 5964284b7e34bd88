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

from bus.rpc.client import RpcClient
from bus.rpc.messages import MAX_REPLY_BYTES, SAFE_METHODS, Answer, Failure, HeldRequest, Reply
from bus.rpc.server import RpcServer

__all__ = [
    "MAX_REPLY_BYTES",
    "SAFE_METHODS",
    "Answer",
    "Failure",
    "HeldRequest",
    "Reply",
    "RpcClient",
    "RpcServer",
]
