"""Benchmarks: `python -m bench`. Real servers, peers in the same run, nothing asserted."""
