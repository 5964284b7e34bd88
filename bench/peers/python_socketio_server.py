"""python-socketio with its Redis manager, on uvicorn with uvloop. PORT, REDIS_URL."""

from __future__ import annotations

import os

import socketio
import uvicorn

server = socketio.AsyncServer(
    async_mode="asgi",
    client_manager=socketio.AsyncRedisManager(os.environ["REDIS_URL"]),
    cors_allowed_origins="*",
)


@server.event  # type: ignore[untyped-decorator]
async def join(session: str, room: str) -> None:
    await server.enter_room(session, room)
    await server.emit("joined", to=session)


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(server),
        port=int(os.environ["PORT"]),
        loop="uvloop",
        ws="websockets",
        ws_per_message_deflate=False,
        lifespan="off",
        log_level="warning",
    )
