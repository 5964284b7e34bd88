"""A real nginx before web or gateway, with its defaults: it buffers requests and answers."""

from __future__ import annotations

import os

from deploy.local.child import Program
from tests.support.ports import HOST
from tests.support.servers import Server, executable

CONFIGURATION = """
{user}
worker_processes 1;
worker_rlimit_nofile 8192;
error_log {folder}/error.log;
pid {folder}/pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port} backlog=2048;
        location / {{
            proxy_pass {site};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""


class Nginx(Server):
    """Forwards everything to ``site``, a URL without a path."""

    def __init__(self, site: str) -> None:
        super().__init__()
        self._site = site

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def program(self) -> Program:
        server = executable("nginx")
        configuration = self.folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                user="user root;" if os.geteuid() == 0 else "",
                folder=self.folder,
                host=HOST,
                port=self.port,
                site=self._site,
            )
        )
        where = ("-p", str(self.folder), "-c", str(configuration), "-e", str(self.folder / "log"))
        command = (server, *where, "-g", "daemon off;")
        return Program("nginx", command, log=self.folder / "log")
