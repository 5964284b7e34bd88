"""What every process does the same way, whatever its purpose. No broker and no store.

``settings`` reads the environment, ``log_format`` sets up logging, ``process`` handles signals and
readiness, ``health`` and ``ops_server`` answer probes, ``metrics`` counts, ``trace`` follows one
request through the processes, ``backoff``, ``after_fork`` and ``progress_bar`` are helpers.

Exports nothing: each module needs libraries of its own.
"""
