"""Fan-out of the bridge and of its peers: one server on one core, the crowd on the other."""
