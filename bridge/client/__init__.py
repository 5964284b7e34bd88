"""One browser: its TCP connection, its frames, and the conversation on it."""
