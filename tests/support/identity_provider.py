"""An OpenID Connect provider (OpenID Connect Core 1.0, authorisation code flow with PKCE)."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt

from tests.support.ports import HOST, free_ports

CLIENT, SECRET = "chatbus", "only-for-tests-0123456789-abcdefgh"
Claims = dict[str, Any]


class IdentityProvider:
    """Lets in whomever the test says. It gives out a code once, to who proves the challenge."""

    def __init__(self) -> None:
        self.port = free_ports(1)
        self.url = f"http://{HOST}:{self.port}"
        self._codes: dict[str, tuple[Claims, str]] = {}
        self._tokens: dict[str, Claims] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        handler = type("Handler", (_Handler,), {"provider": self})
        server = ThreadingHTTPServer((HOST, self.port), handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def log_in(self, asked: str, **claims: Any) -> str:
        """Logs in the person with these claims at the address to which chatbus sent the browser;
        the address, at chatbus, to which the provider sends it back."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(asked).query).items()}
        assert (query["client_id"], query["response_type"]) == (CLIENT, "code")
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe()
        self._codes[code] = (claims, query["code_challenge"])
        back = urlsplit(query["redirect_uri"])
        return f"{back.path}?{urlencode({'code': code, 'state': query['state']})}"

    def discovery(self) -> Claims:
        ends = ("authorization", "token", "userinfo")
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            **{f"{end}_endpoint": f"{self.url}/{end}" for end in ends},
        }

    def exchange(self, given: dict[str, str]) -> Claims | None:
        """The tokens for a code; None if anything is wrong with the request."""
        claims, challenge = self._codes.pop(given.get("code", ""), ({}, ""))
        digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        proved = base64.urlsafe_b64encode(digest).decode().rstrip("=") == challenge
        if not proved or (given.get("client_id"), given.get("client_secret")) != (CLIENT, SECRET):
            return None
        now = int(time.time())
        own = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 60}
        token = secrets.token_urlsafe()
        self._tokens[token] = claims
        return {
            "access_token": token,
            "token_type": "Bearer",
            "id_token": jwt.encode(own | {"sub": claims["sub"]}, SECRET, algorithm="HS256"),
        }

    def userinfo(self, authorization: str) -> Claims | None:
        return self._tokens.get(authorization.removeprefix("Bearer "))


class _Handler(BaseHTTPRequestHandler):
    provider: IdentityProvider

    def do_GET(self) -> None:
        if self.path == "/.well-known/openid-configuration":
            self._answer(self.provider.discovery())
        else:
            self._answer(self.provider.userinfo(self.headers["Authorization"] or ""))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer(self.provider.exchange({k: v[0] for k, v in parse_qs(body).items()}))

    def _answer(self, content: Claims | None) -> None:
        body = json.dumps(content or {"error": "invalid_request"}).encode()
        self.send_response(200 if content else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
