"""What Redis holds for the bridges: the rooms' logs, presence, ended login sessions.

``model`` has the keys and types, ``log_writer`` is the consumer's side, ``log_reader`` the
bridge's and the web tier's, ``log_search`` finds one event for an operator.

``redis_client`` connects, ``lua_script`` runs the scripts beside it. Exports nothing: the
synchronous and the asyncio modules are for different processes.
"""
