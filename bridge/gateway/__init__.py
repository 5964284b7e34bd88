"""The HTTP gateway: holds a browser's request while background workers answer it."""
