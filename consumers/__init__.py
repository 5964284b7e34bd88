"""One module per queue, named after it; starting one imports no other."""
