"""The rooms of this bridge's sockets, fed by Redis: everything that sockets share."""
