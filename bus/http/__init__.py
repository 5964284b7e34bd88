"""How the web tier and the gateway speak HTTP with browsers, and what a client may cost them.

Both run the same front, so they agree on which requests are legal, and slow clients meet the same
deadlines and shares at both.
"""
