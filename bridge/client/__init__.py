"""One browser: its TCP connection, its frames, and its conversation with the bridge."""
