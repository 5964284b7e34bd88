"""docker-compose.yml and deploy/Dockerfile, without an engine: the Compose schema (from the
Compose Specification, as the package check-jsonschema carries it) and what must fit together."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.gateway.settings import GatewaySettings
from bus.runtime.settings import Environment
from bus.ticket import KeySet
from bus.transport.rabbitmq.management_api import Management
from deploy.commands.up import DATABASE_PROCESSES
from deploy.processes import PROCESSES
from tests.support.users import PERMISSIONS, Secrets

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
SERVERS = {"rabbitmq", "redis", "mongo", "mysql"}
ONE_SHOTS = {"migrate": ["chatbus", "migrate"], "topology": ["chatbus", "topology", "apply"]}
Service = dict[str, Any]


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    found: dict[str, Service] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    return subprocess.run(
        [*command, "vendor.compose-spec", str(path)], capture_output=True, text=True, check=False
    )


def test_the_compose_file_is_valid() -> None:
    result = validate(COMPOSE)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_schema_can_refuse(tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text("services: {web: {image: x, restarts: always}}\n")
    assert "restarts" in validate(broken).stdout


def test_every_process_has_a_service(services: dict[str, Service]) -> None:
    assert set(services) == {*PROCESSES, *SERVERS, *ONE_SHOTS}


def test_every_service_is_built_from_the_target_of_its_process(
    services: dict[str, Service],
) -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M)
    for name in PROCESSES:
        assert services[name]["build"]["target"] == name
        assert name in stages
        assert f'ENTRYPOINT ["chatbus", "run", "{name}"]' in DOCKERFILE


def test_who_publishes_waits_for_tables_and_queues(services: dict[str, Service]) -> None:
    for name, words in ONE_SHOTS.items():
        assert services[name]["entrypoint"] == words
        assert services[name]["restart"] == "no"
    done = {"condition": "service_completed_successfully"}
    for name in DATABASE_PROCESSES:
        for one_shot in ONE_SHOTS:
            assert services[name]["depends_on"][one_shot] == done


def test_the_broker_has_the_management_api_for_the_processes_alone(
    services: dict[str, Service],
) -> None:
    assert services["rabbitmq"]["image"].endswith("-management")
    assert services["rabbitmq"]["networks"] == ["bus"]
    broker = Environment({"BROKER_URL": "amqp://chatbus:x@rabbitmq:5672/%2F"})
    for name in DATABASE_PROCESSES:
        api_url = services[name]["environment"]["BROKER_API_URL"]
        assert Management.from_environment(broker).urls == (api_url,)


def test_processes_run_as_nobody_special(services: dict[str, Service]) -> None:
    final = DOCKERFILE.index("FROM runtime AS runtime-mysql")
    copies = DOCKERFILE[final:].count("COPY --from=")
    assert DOCKERFILE[final:].count("USER chatbus") == copies
    for name in PROCESSES:
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in services[name]["security_opt"]


def test_only_web_bridge_and_gateway_are_published_and_only_here(
    services: dict[str, Service],
) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"web", "bridge", "gateway"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_who_waits_waits_for_health(services: dict[str, Service]) -> None:
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in services[needed]["healthcheck"]


def test_no_secret_is_in_a_file_of_the_repository(services: dict[str, Service]) -> None:
    text = COMPOSE.read_text() + DOCKERFILE
    assert not re.search(r"://[^/\s{]*:[^/\s]*@", text), "a URL with a password"
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEYS", name):
                assert value == "yes" or value.startswith("/run/secrets/")
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "deploy/secrets" in (ROOT / ".dockerignore").read_text().splitlines()


def test_no_password_is_on_a_command_line() -> None:
    """Command lines are public on a host, also those of containers."""
    assert not re.search(r"--(password|requirepass)|\s-p\S", COMPOSE.read_text())
    assert "--password" not in (ROOT / "deploy/compose/mongo-health.sh").read_text()


def test_a_container_gets_longer_than_its_process_takes_to_finish(
    services: dict[str, Service],
) -> None:
    held = GatewaySettings.from_environment(Environment({"BROKER_URL": "redis://127.0.0.1/"}))
    assert services["gateway"]["stop_grace_period"] == "1m"
    assert held.limits.body + held.timeout < 60


def test_make_secrets_writes_every_file_that_compose_names(
    services: dict[str, Service], tmp_path: Path
) -> None:
    script = tmp_path / "deploy/make-secrets.sh"
    script.parent.mkdir()
    script.write_bytes((ROOT / "deploy/make-secrets.sh").read_bytes())
    script.chmod(0o755)
    subprocess.run([script], check=True, capture_output=True)
    named = {path for service in services.values() for path in service.get("env_file", [])}
    secrets = yaml.safe_load(COMPOSE.read_text())["secrets"]
    named |= {secret["file"] for secret in secrets.values()}
    made = {str(path.relative_to(tmp_path)) for path in (tmp_path / "deploy/secrets").iterdir()}
    assert made == named
    again = subprocess.run([script], check=False, capture_output=True, text=True)
    assert again.returncode == 1
    assert "exists" in again.stderr
    for path in (tmp_path / "deploy/secrets").glob("*.env"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    redis = (tmp_path / "deploy/secrets/redis.conf").read_text().splitlines()
    assert {"appendonly yes", "maxmemory-policy noeviction"} <= set(redis)
    check_settings((tmp_path / "deploy/secrets/web.env").read_text())


def check_settings(text: str) -> None:
    """The URLs and keys are ones that the processes accept."""
    environment = Environment(dict(line.split("=", 1) for line in text.splitlines()))
    assert environment.broker_url()
    assert environment.redis_url()
    assert environment.mongo_url()
    assert environment.secret("SECRET_KEY")
    KeySet.from_environment(environment)


def test_each_process_has_users_of_its_own_and_none_is_an_administrator(
    services: dict[str, Service], tmp_path: Path
) -> None:
    shared = {"web", "outbox_relay"}  # the two halves of the web tier
    files = [services[name]["env_file"][0] for name in (*PROCESSES, *ONE_SHOTS)]
    assert len(set(files)) == len(files) - len(shared) + 1
    tags = {user["name"]: user["tags"] for user in Secrets(tmp_path).users_of_rabbitmq()}
    assert {tag for given in tags.values() for tag in given} == {"management"}
    assert {entry["user"] for entry in PERMISSIONS} == set(tags)
