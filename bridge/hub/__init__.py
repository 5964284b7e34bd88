"""The rooms of this bridge's sockets, fed by Redis: what any single socket does not own."""
