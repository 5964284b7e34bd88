"""Held requests: HTTP requests that wait on a queue, and the answers that come back.

All requests go through one queue, ``web.requests``. Each gateway has one queue for its answers,
matched to the requests by correlation id. Both ends keep these rules:

* A request carries its deadline. The caller gives up at the deadline, so no worker runs the
  request after it.
* A worker acknowledges a request when its answer is published. If the worker dies before that,
  the broker delivers the request again: a safe method (RFC 9110, 9.2.1) runs again, any other
  is answered with a failure, because it may have run already.
* Requests and answers are not persistent. A broker that crashes may forget that it delivered a
  request, so no request outlives a crash as one that was never delivered.
"""
