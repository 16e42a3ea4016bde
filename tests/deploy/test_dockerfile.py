from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from codelab import __version__
from tests.deploy.dockerfile import ROOT, argv, ignored, read_stages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.dockerfile import Instruction

BUILD, FINAL = read_stages()
PREFIX = "/opt/codelab"
#: What belongs to the machine that runs the tests, and not to an image.
INHERITED = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("AGENT_RUNTIME__", "AUTH_SERVICE__", "CODELAB_", "PYTHON", "VIRTUAL_ENV"))
}


def only(stage: list[Instruction], keyword: str) -> str:
    """Return the value of an instruction that a stage has once."""
    (value,) = [instruction.value for instruction in stage if instruction.keyword == keyword]
    return value


class Image:
    """What the Dockerfile makes, in a folder of its own instead of a container."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.prefix = root / "opt" / "codelab"
        self.data = root / "data"
        self.data.mkdir()

    def here(self, text: str) -> str:
        """Move the paths of the image into the folder."""
        return text.replace(PREFIX, str(self.prefix)).replace("/data", str(self.data))

    def environment(self, stage: list[Instruction]) -> dict[str, str]:
        """Return the variables of a stage, with nothing of codelab from the machine around it."""
        environment = dict(INHERITED)
        for pair in " ".join(item.value for item in stage if item.keyword == "ENV").split():
            name, _, value = pair.partition("=")
            environment[name] = self.here(value).replace("$PATH", environment["PATH"])
        return environment

    def build(self) -> None:
        """Carry out the first stage, step by step, with its arguments as they are by default."""
        folder = self.root
        # As in the image, where it has this name; some systems only have ``python3``.
        programs = self.root / "programs"
        programs.mkdir()
        (programs / "python").symlink_to(Path(sys.executable).resolve())
        environment = self.environment(BUILD)
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        for step in BUILD:
            if step.keyword == "ARG":
                name, _, value = step.value.partition("=")
                environment[name] = value
                continue
            if step.keyword == "WORKDIR":
                folder = self.root / step.value.removeprefix("/")
                folder.mkdir(parents=True)
            elif step.keyword == "COPY":
                *sources, target = step.value.split()
                for source in sources:
                    self.copy(source, folder / target)
            elif step.keyword == "RUN":
                self.step(step, folder, environment)
            else:
                assert step.keyword in {"FROM", "ENV"}, f"this test does not know {step.keyword}"

    def step(self, step: Instruction, folder: Path, environment: dict[str, str]) -> None:
        """Carry out a RUN."""
        done = subprocess.run(
            ["/bin/sh", "-c", self.here(step.value)],
            cwd=folder,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{step.value}\n{done.stdout}\n{done.stderr}"

    def add_extra(self, name: str) -> None:
        """Carry out the step that the argument is for once more, with another one: most of it is there already."""
        (step,) = [step for step in BUILD if step.keyword == "RUN" and "CODELAB_EXTRA" in step.value]
        self.step(step, self.root / "src", self.environment(BUILD) | {"CODELAB_EXTRA": name})

    def copy(self, source: str, target: Path) -> None:
        """Copy from the build context as COPY does."""
        assert not ignored(source), f".dockerignore leaves {source} out"
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target / source)

    def run(self, arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the image to its end."""
        environment = self.environment(FINAL) | variables
        return subprocess.run(
            self.command(arguments), cwd=self.data, env=environment, check=False, capture_output=True, text=True
        )

    def command(self, arguments: list[str]) -> list[str]:
        """Return a command of the image with its program's place in the folder."""
        return [str(self.prefix / "bin" / arguments[0]), *arguments[1:]]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """The image, built."""
    image = Image(tmp_path)
    image.build()
    return image


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


@pytest.fixture
def server(image: Image, port: int) -> Iterator[subprocess.Popen[str]]:
    """The command of the image, on the loopback address and another port."""
    program, serve, host_option, _, port_option, _ = argv(only(FINAL, "CMD"))
    command = image.command([program, serve, host_option, "127.0.0.1", port_option, str(port)])
    with (image.root / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=image.data, env=image.environment(FINAL), stdout=log, stderr=subprocess.STDOUT, text=True
        )
        yield process
        process.kill()
        process.wait()


# One test, because the installation takes most of its time and pytest-xdist would make it once for each worker.
@pytest.mark.timeout(600)
def test_image_serves_until_it_is_told_to_stop(image: Image, server: subprocess.Popen[str], port: int) -> None:
    """The steps of the Dockerfile, in a clean folder, give a server that keeps everything below /data and ends well.

    The health check fails while nobody answers, and succeeds as soon as the server is ready. Without the extra it
    allows no MCP servers, and with the argument of the build it does.
    """
    version = image.run(["codelab", "--version"])
    check = [argument.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for argument in argv(only(FINAL, "HEALTHCHECK"))]
    deadline = time.monotonic() + 60
    while image.run(check).returncode != 0:
        assert server.poll() is None, (image.root / "log").read_text(encoding="utf-8")
        assert time.monotonic() < deadline, "not ready after a minute"
    kept = {path.name for path in image.data.iterdir() if path.suffix in {".db", ".key"}}
    server.send_signal(getattr(signal, only(FINAL, "STOPSIGNAL")))

    assert version.returncode == 0, version.stderr
    assert __version__ in version.stdout
    assert server.wait(timeout=60) == 0
    assert image.run(check).returncode != 0
    assert kept == {"agent_runtime.db", "auth.db", "auth.key"}

    allowed = {"AGENT_RUNTIME__MCP_ALLOWED_HOSTS": "mcp.example.com"}
    refused = image.run(["codelab", "serve", "--port", "0"], **allowed)
    image.add_extra("mcp")
    used = image.run(["python", "-c", "import codelab.agent.mcp.transport, mcp.client.streamable_http"])

    assert refused.returncode == 2
    assert "needs the extra codelab[mcp]" in refused.stderr
    assert used.returncode == 0, used.stderr


class TestFinalStage:
    def test_server_is_the_process_itself(self) -> None:
        """The command is in exec form, so that SIGTERM reaches the server and not a shell."""
        assert only(FINAL, "CMD") == '["codelab", "serve", "--host", "0.0.0.0", "--port", "8000"]'
        assert only(FINAL, "STOPSIGNAL") == "SIGTERM"
        assert only(FINAL, "EXPOSE") == "8000"

    def test_server_is_not_root_and_writes_below_data(self) -> None:
        """A user without rights owns the volume, and every path of the settings is on it."""
        words = " ".join(item.value for item in FINAL if item.keyword in {"ENV", "RUN"})

        assert only(FINAL, "USER") == "codelab"
        assert "--owner=codelab --group=codelab --mode=0700 /data" in words
        assert only(FINAL, "VOLUME") == "/data"
        assert "AGENT_RUNTIME__DB_URL=sqlite:////data/agent_runtime.db" in words
        assert "AUTH_SERVICE__DB_URL=sqlite:////data/auth.db" in words
        assert "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE=/data/auth.key" in words

    def test_nothing_of_the_build_stays(self) -> None:
        """The image that runs gets the environment and nothing else."""
        assert only(FINAL, "COPY") == f"--from=build {PREFIX} {PREFIX}"
        assert only(BUILD, "FROM") == f"{only(FINAL, 'FROM')} AS build"

    def test_build_context_holds_no_secret(self) -> None:
        """What must not reach an image is kept out of the build context."""
        for name in (".env", ".git", ".venv", "data", "tests"):
            assert ignored(name)
