"""Whatever holds a browser's connection: the WebSocket server and the HTTP gateway."""
