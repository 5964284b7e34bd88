"""What Redis holds for the bridges: the rooms' logs, presence, ended login sessions.

``model`` has the keys and types, ``log_writer`` is the consumer's side, ``log_reader`` the
bridge's, ``log_search`` finds one event for an operator.

Exports nothing: the synchronous and the asyncio client are for different processes.
"""
