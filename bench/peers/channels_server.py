"""Django Channels on uvicorn, with the pub/sub layer of channels_redis. PORT, REDIS_URL."""

from __future__ import annotations

import os
from typing import Any

import uvicorn
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import channel_layers
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings

settings.configure()
channel_layers.set("default", RedisPubSubChannelLayer([os.environ["REDIS_URL"]], capacity=10_000))


class Room(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_add(text_data, self.channel_name)
        await self.send("joined")

    async def room_event(self, message: dict[str, Any]) -> None:
        await self.send(message["text"])


if __name__ == "__main__":
    uvicorn.run(
        Room.as_asgi(),
        port=int(os.environ["PORT"]),
        loop="uvloop",
        ws="websockets",
        ws_per_message_deflate=False,
        lifespan="off",
        log_level="warning",
    )
