from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

import pytest

from tests.deploy.checkout import FILES, ROOT, Checkout

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the programs that dev.py starts here are shell scripts"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in which nothing is installed."""
    return Checkout(tmp_path)


class TestHelp:
    @pytest.mark.parametrize("arguments", [(), ("--help",), ("help",)], ids=repr)
    def test_no_command_teaches_all_of_them(self, checkout: Checkout, arguments: tuple[str, ...]) -> None:
        """Without a command every command is shown, and nothing is installed."""
        code, out, err = checkout.run(*arguments)

        assert (0, "") == (code, err)
        assert ["chat", "serve", "test", "lint", "bench", "lock"] == [
            line.split()[0] for line in out.splitlines() if line.startswith("  ")
        ]
        assert not (checkout.root / ".venv").exists()

    def test_unknown_command_is_named(self, checkout: Checkout) -> None:
        """A command that does not exist is an error that names it and shows those that do."""
        code, out, err = checkout.run("sevre")

        assert (2, "") == (code, out)
        assert "no command 'sevre'" in err
        assert "serve " in err

    @pytest.mark.parametrize("command", ["test", "lint", "bench", "lock"])
    def test_each_command_has_its_own_help(self, checkout: Checkout, command: str) -> None:
        """The help of a command needs no installation."""
        code, out, err = checkout.run(command, "--help")

        assert (0, "") == (code, err)
        assert out.startswith(f"usage: python3 dev.py {command}")
        assert not (checkout.root / ".venv").exists()

    def test_chat_and_serve_show_their_own_help(self, checkout: Checkout) -> None:
        """The options of the program are the program's to explain."""
        checkout.installed("runtime")

        assert (0, "codelab serve --help\n", "") == checkout.run("serve", "--help")


class TestOldPython:
    def test_old_python_gets_one_clear_line(self, checkout: Checkout) -> None:
        """A Python that is too old is told so in one line, before anything that it lacks is touched."""
        code, out, err = checkout.run("serve", prelude="import sys; sys.version_info = (3, 9, 18, 'final', 0)")

        assert (1, "") == (code, out)
        assert err == "codelab needs Python 3.11 or newer; this is 3.9\n"

    def test_source_is_readable_for_an_old_python(self) -> None:
        """The file has no syntax that an old Python would stumble over before it can say what it needs."""
        source = (ROOT / "dev.py").read_text(encoding="utf-8")

        assert ast.parse(source, feature_version=(3, 7)).body
        assert "from __future__ import annotations\n" not in source.splitlines(keepends=True)  # unknown to 3.6


class TestStamp:
    def test_complete_installation_is_left_alone(self, checkout: Checkout) -> None:
        """Nothing is installed and nothing is said when there is nothing to do."""
        checkout.installed("runtime")

        assert (0, "codelab serve\n", "") == checkout.run("serve")

    @pytest.mark.parametrize(
        ("have", "need", "enough"),
        [("runtime", "runtime", True), ("dev", "dev", True), ("dev", "runtime", True), ("runtime", "dev", False)],
    )
    def test_development_has_all_of_the_runtime(
        self, checkout: Checkout, have: str, need: str, *, enough: bool
    ) -> None:
        """A development install serves, and a runtime install does not test."""
        checkout.installed(have)

        assert enough is checkout.module().is_installed(need)

    @pytest.mark.parametrize("file", ["pyproject.toml", "requirements.lock"])
    def test_change_of_a_file_asks_for_a_new_install(self, checkout: Checkout, file: str) -> None:
        """What decides the content of the environment decides whether it is still right."""
        checkout.installed("runtime")
        (checkout.root / file).write_text("changed", encoding="utf-8")

        assert not checkout.module().is_installed("runtime")

    def test_other_python_asks_for_a_new_install(self, checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
        """An environment made by another Python is not used."""
        checkout.installed("runtime")
        monkeypatch.setattr(sys, "version", "3.99.0 (main)")

        assert not checkout.module().is_installed("runtime")

    def test_moved_checkout_asks_for_a_new_install(self, checkout: Checkout) -> None:
        """An environment knows its own path, so one that was moved is made anew."""
        checkout.installed("runtime")
        moved = checkout.root / "elsewhere"
        moved.mkdir()
        for name in (*FILES, "dev.py", ".venv"):
            (checkout.root / name).rename(moved / name)
        checkout.root = moved

        assert not checkout.module().is_installed("runtime")


class TestInstall:
    def test_locked_versions_come_first_and_codelab_last(self, checkout: Checkout) -> None:
        """Only hashed packages are installed, then codelab itself without any resolving."""
        checkout.uv('if [ "$2" = install ]; then cp tools/codelab .venv/bin/codelab; fi')
        checkout.program(checkout.tools / "codelab", 'echo codelab "$@"')
        code, out, err = checkout.run("serve", "--port", "9000")

        assert (0, "codelab serve --port 9000\n") == (code, out)
        assert "installing requirements.lock" in err
        venv, sync, install = checkout.calls()
        assert venv.startswith("venv ")
        assert sync.startswith("pip sync ")
        assert sync.endswith("--require-hashes requirements.lock")
        assert install.endswith("--no-deps --no-build-isolation -e .")
        assert checkout.module().is_installed("runtime")

    def test_interrupted_install_is_made_anew(self, checkout: Checkout) -> None:
        """What a failed install left behind is thrown away by the next one, never completed."""
        checkout.uv('if [ "$2" = install ]; then touch .venv/half; exit 9; fi')

        code, _, err = checkout.run("serve")

        assert code == 1
        assert err.endswith("could not install codelab itself (uv ended with 9)\n")
        assert not checkout.module().is_installed("runtime")
        assert len(checkout.calls()) == 3

        checkout.uv()
        checkout.run("serve")

        assert checkout.module().is_installed("runtime")
        assert not (checkout.root / ".venv" / "half").exists()

    def test_sound_environment_is_kept(self, checkout: Checkout) -> None:
        """A changed lock is installed into the environment that is there."""
        checkout.uv()
        checkout.run("serve")
        (checkout.root / "requirements.lock").write_text("changed", encoding="utf-8")
        checkout.calls()

        checkout.run("serve")

        assert [call.split()[:2] for call in checkout.calls()] == [["pip", "sync"], ["pip", "install"]]

    def test_missing_ensurepip_gets_one_clear_line(self, checkout: Checkout) -> None:
        """Debian's Python without python3-venv is told what to install."""
        code, out, err = checkout.run("serve", prelude="import sys; sys.modules['ensurepip'] = None")

        assert (1, "") == (code, out)
        assert err == "dev.py: this Python has no ensurepip: apt install python3-venv (or install uv)\n"
        assert not (checkout.root / ".venv").exists()

    def test_second_dev_py_waits_for_the_first(self, checkout: Checkout) -> None:
        """Of two at once one installs; the other one waits and then has nothing to do."""
        with checkout.module().exclusive():
            second = checkout.start("serve")
            assert second.stderr is not None
            assert "waiting" in second.stderr.readline()
            checkout.installed("runtime")

        out, err = second.communicate(timeout=60)

        assert (0, "codelab serve\n", "") == (second.returncode, out, err)


class TestCommands:
    def test_codelab_takes_the_place_of_dev_py(self, checkout: Checkout, tmp_path: Path) -> None:
        """Signals and the exit code reach the program itself, which runs where the user is."""
        checkout.installed("dev")
        checkout.program(checkout.bin / "codelab", 'echo "$$"; pwd; exit 7')
        elsewhere = tmp_path / "project"
        elsewhere.mkdir()

        with checkout.start("chat", cwd=elsewhere) as process:
            out, err = process.communicate(timeout=60)

        assert (7, "") == (process.returncode, err)
        assert [str(process.pid), str(elsewhere)] == out.splitlines()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((), "-n 4 --dist worksteal"),
            (("--soak", "-k", "gate"), "-n 4 --dist worksteal --soak -k gate"),
            (("-n", "0"), "-n 4 --dist worksteal -n 0"),
            (("-p", "no:xdist"), "-p no:xdist"),
            (("--pdb",), "--pdb"),
            (("--", "--help"), "-n 4 --dist worksteal --help"),
        ],
        ids=repr,
    )
    def test_arguments_reach_pytest(self, checkout: Checkout, arguments: tuple[str, ...], expected: str) -> None:
        """Pytest gets four processes unless that is impossible, and every argument; the last `-n` counts."""
        checkout.installed("dev")

        assert (0, f"python -m pytest {expected}\n", "") == checkout.run("test", *arguments)

    def test_tests_may_write_byte_code(self, checkout: Checkout) -> None:
        """Each of hundreds of processes would compile the code anew when told not to keep the result."""
        checkout.installed("dev")
        checkout.program(checkout.bin / "python", 'echo "${PYTHONDONTWRITEBYTECODE-none}"')
        forbidden = "import os; os.environ['PYTHONDONTWRITEBYTECODE'] = '1'"

        assert (0, "none\n", "") == checkout.run("test", prelude=forbidden)

    def test_lint_runs_all_checks_and_names_those_that_failed(self, checkout: Checkout) -> None:
        """One failed check does not hide the others."""
        checkout.installed("dev")
        checkout.program(checkout.bin / "mypy", "echo mypy; exit 3")

        code, out, err = checkout.run("lint")

        assert code == 1
        assert ["ruff check .", "ruff format --check .", "mypy", "lint-imports"] == out.splitlines()
        assert err.splitlines()[-1] == "codelab: lint: failed: mypy"

    def test_lint_succeeds_when_all_checks_do(self, checkout: Checkout) -> None:
        """The exit code is 0 only when nothing was found."""
        checkout.installed("dev")

        code, _, err = checkout.run("lint")

        assert code == 0
        assert err.splitlines()[-1] == "codelab: lint: all 4 checks passed"

    def test_lock_writes_the_runtime_first(self, checkout: Checkout) -> None:
        """Each lock is constrained by the one before it, and all have hashes and no host."""
        checkout.uv()

        code, _, _ = checkout.run("lock", "--upgrade")

        assert code == 0
        runtime, mcp, dev = checkout.calls()
        for call in (runtime, mcp, dev):
            assert "--generate-hashes --no-emit-index-url --no-emit-find-links --no-header" in call
            assert call.endswith("--upgrade")
        assert "-o requirements.lock" in runtime
        assert "--extra mcp -c requirements.lock -o requirements-mcp.lock" in mcp
        assert "--group dev -c requirements-mcp.lock -o requirements-dev.lock" in dev
