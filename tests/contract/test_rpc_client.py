"""What the end that asks says of a request that it could not publish in time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bus.errors import PublishExpired
from bus.rpc.client import RpcClient
from bus.rpc.messages import HeldRequest
from bus.topology import WEB_REQUESTS
from tests.support.broker import waiting
from tests.support.ports import HOST
from tests.support.proxy import Proxy
from tests.support.rabbitmq import RabbitMQ
from tests.support.wait import wait_until


@pytest.fixture
def proxy(rabbitmq: RabbitMQ) -> Iterator[Proxy]:
    with Proxy(rabbitmq.port) as proxy:
        yield proxy


def request() -> HeldRequest:
    return HeldRequest(
        method="POST", target="/", headers=(), body=b"", client=HOST, scheme="http", deadline=2e9
    )


def test_only_a_request_that_was_not_sent_fails_and_one_that_may_be_there_stays_open(
    rabbitmq: RabbitMQ, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = rabbitmq.fresh_vhost()
    client = RpcClient(f"amqp://guest:guest@{HOST}:{proxy.port}/{url.rpartition('/')[2]}")
    client.ping().result(20)
    proxy.black_hole()
    monkeypatch.setattr(client._publisher, "_timeout", 1.5)
    stalled = client.send(request(), 0)
    wait_until(lambda: proxy.held, what="the first request is sent")
    monkeypatch.setattr(client._publisher, "_timeout", 0.1)
    expired = client.send(request(), 0)
    with pytest.raises(PublishExpired):
        expired.result(20)
    assert not stalled.done()
    monkeypatch.undo()
    proxy.forward()
    wait_until(lambda: waiting(url, WEB_REQUESTS.name) == 1, what="only the first one is there")
    client.ping().result(20)
    assert waiting(url, WEB_REQUESTS.name) == 1
    client._publisher.close()
