from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from tests.deploy.env_example import ROOT, default_lines, postgresql_lines

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parent / "compose_spec" / "compose-spec.json").read_text("utf-8"))
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
INNERMOST = re.compile(r"(?<!\$)\$\{(\w+):-([^${}]*)\}")


def load(**environment: str) -> dict[str, Any]:
    """Read compose.yaml as Compose does: variables first replaced, from the inside outwards."""
    text = COMPOSE
    while INNERMOST.search(text):
        text = INNERMOST.sub(lambda match: environment.get(match[1]) or match[2], text)
    assert "${" not in text
    loaded: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))
    return loaded


def active(compose: dict[str, Any], profiles: str) -> set[str]:
    """Return the services that `docker compose up` starts."""
    chosen = set(profiles.split(","))
    services: dict[str, dict[str, Any]] = compose["services"]
    return {
        name for name, service in services.items() if not service.get("profiles") or chosen & set(service["profiles"])
    }


def problems(document: Any) -> list[str]:
    """Validate against the JSON schema of the Compose Specification."""
    validator = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


class TestSpecification:
    @pytest.mark.parametrize("environment", [{}, postgresql_lines()], ids=["default", "postgresql"])
    def test_file_is_valid(self, environment: dict[str, str]) -> None:
        """compose.yaml is valid by the Compose Specification, with and without a .env."""
        assert [] == problems(load(**environment))
        assert [] == problems(yaml.safe_load(COMPOSE))

    def test_schema_notices_a_slip(self) -> None:
        """The schema is strict enough to find a key that is misspelt."""
        document = load()
        document["services"]["postgres"]["helthcheck"] = document["services"]["postgres"].pop("healthcheck")

        assert problems(document)


class TestDefault:
    def test_sqlite_on_a_volume_and_one_service(self) -> None:
        """Without a .env the server runs alone, on two SQLite files on its volume."""
        compose = load(**default_lines())
        codelab = compose["services"]["codelab"]

        assert compose == load()
        assert {"codelab"} == active(compose, "")
        assert codelab["environment"]["AGENT_RUNTIME__DB_URL"] == "sqlite:////data/agent_runtime.db"
        assert codelab["environment"]["AUTH_SERVICE__DB_URL"] == "sqlite:////data/auth.db"
        assert codelab["volumes"] == ["codelab-data:/data"]
        assert codelab["env_file"] == [{"path": ".env", "required": False}]

    def test_only_this_machine_reaches_the_server(self) -> None:
        """The published port is bound to the loopback address, and tokens name it as their issuer."""
        codelab = load(CODELAB_PORT="9000")["services"]["codelab"]

        assert codelab["ports"] == ["127.0.0.1:9000:8000"]
        assert codelab["environment"]["AUTH_SERVICE__JWT_ISSUER"] == "http://127.0.0.1:9000"

    def test_container_can_do_nothing_that_it_does_not_need(self) -> None:
        """The server gets no privileges and writes on its volume and /tmp only."""
        codelab = load()["services"]["codelab"]

        assert codelab["read_only"] is True
        assert codelab["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in codelab["security_opt"]


class TestPostgresql:
    def test_env_switches_the_database(self) -> None:
        """The block of .env.example starts `postgres` and points both modules at the databases made there."""
        environment = postgresql_lines()
        compose = load(**environment)
        postgres = compose["services"]["postgres"]
        script = (ROOT / "scripts" / "init-postgres.sh").read_text(encoding="utf-8")
        made = re.search(r"^for database in (.+); do$", script, re.MULTILINE)
        assert made is not None

        assert {"codelab", "postgres"} == active(compose, environment["COMPOSE_PROFILES"])
        urls = [
            compose["services"]["codelab"]["environment"][f"{module}__DB_URL"]
            for module in ("AGENT_RUNTIME", "AUTH_SERVICE")
        ]
        for url, database in zip(map(urlsplit, urls), made[1].split(), strict=True):
            assert (url.hostname, url.port, url.path) == ("postgres", 5432, f"/{database}")
            assert url.username == postgres["environment"]["POSTGRES_USER"]
            assert url.password == postgres["environment"]["POSTGRES_PASSWORD"]

    def test_service_is_the_one_of_the_reference_system(self) -> None:
        """Image, volume, user, password and database are those that are known; no port is published."""
        compose = load()
        postgres = compose["services"]["postgres"]

        assert postgres["image"] == "postgres:16"
        assert "postgres-data:/var/lib/postgresql/data" in postgres["volumes"]
        assert "postgres-data" in compose["volumes"]
        assert list(postgres["environment"].values()) == ["codelab", "codelab_password", "codelab"]
        assert "ports" not in postgres
        assert "pg_isready" in postgres["healthcheck"]["test"][1]

    def test_init_script_is_mounted_where_the_image_looks(self) -> None:
        """The file that is mounted exists and may be executed."""
        (mount,) = [volume for volume in load()["services"]["postgres"]["volumes"] if "initdb.d" in volume]
        source, target, mode = mount.split(":")

        assert (target, mode) == (f"/docker-entrypoint-initdb.d/{Path(source).name}", "ro")
        assert (ROOT / source).stat().st_mode & 0o111 == 0o111

    def test_server_does_not_depend_on_a_database_that_is_not_used(self) -> None:
        """Without the profile there is no `postgres` to wait for."""
        assert load()["services"]["codelab"]["depends_on"]["postgres"]["required"] is False
