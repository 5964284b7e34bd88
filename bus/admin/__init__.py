"""What operators do to a broker: change its topology, read and redrive dead letters.

``topology_plan`` compares without I/O, ``topology_apply`` changes, behind ``topology_gate`` and
after ``empty_queue`` has proved that a queue holds nothing. Exports nothing: one command imports
one module.
"""
