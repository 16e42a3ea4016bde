from __future__ import annotations

import ast
import ipaddress
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import pytest

from codelab.errors import StartError
from codelab.settings import AgentSettings, AuthSettings, ServerSettings, Settings, read_env_file, variables

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "codelab"
SECRET = "hunter2"


class TestReading:
    def test_without_an_environment_the_defaults_hold(self) -> None:
        """An empty environment gives the documented defaults; an empty value counts as unset."""
        empty = {variable.name: "" for variable in variables()}

        assert Settings.from_environ({}) == Settings.from_environ(empty) == Settings()
        assert Settings().agent.db_url == "sqlite:///data/agent_runtime.db"
        assert Settings().auth.db_url == "sqlite:///data/auth.db"

    def test_every_default_is_itself_a_value(self) -> None:
        """Setting every variable to its default changes nothing."""
        defaults = {variable.name: variable.default for variable in variables()}

        assert Settings.from_environ(defaults) == Settings()

    def test_values_are_read(self) -> None:
        """Each kind of value: text, number, whole number, path, choice, networks."""
        settings = Settings.from_environ(
            {
                "AGENT_RUNTIME__DB_URL": "postgresql://h/db",
                "AGENT_RUNTIME__MAX_STEPS": " 7 ",
                "AGENT_RUNTIME__LLM_IDLE_TIMEOUT": "1.5",
                "AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE": "/etc/codelab/key",
                "AUTH_SERVICE__LOG_LEVEL": "DEBUG",
                "CODELAB_TRUSTED_PROXIES": "10.0.0.1, 192.168.0.0/16,::1",
                "SOMETHING_ELSE": "ignored",
            }
        )

        assert settings.agent.db_url == "postgresql://h/db"
        assert settings.agent.max_steps == 7
        assert settings.agent.llm_idle_timeout == 1.5
        assert settings.auth.key_encryption_key_file == Path("/etc/codelab/key")
        assert settings.auth.log_level == "debug"
        networks = ("10.0.0.1/32", "192.168.0.0/16", "::1/128")
        assert settings.server.trusted_proxies == tuple(map(ipaddress.ip_network, networks))

    @pytest.mark.parametrize(("words", "value"), [("true TRUE 1 yes on", True), ("false 0 No off", False)])
    def test_truth_has_some_names(self, words: str, value: bool) -> None:
        """Those of the reference system, and those of our other switches."""
        for word in words.split():
            settings = Settings.from_environ({"AGENT_RUNTIME__MULTI_AGENT_MODE": word})
            assert settings.agent.multi_agent_mode is value

    def test_a_path_may_begin_at_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """``~`` is the home folder."""
        monkeypatch.setenv("HOME", str(tmp_path))
        settings = Settings.from_environ({"CODELAB_DATA_DIR": "~/data"})

        assert settings.server.data_dir == tmp_path / "data"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(
                ("AGENT_RUNTIME__MAX_STEPS", value)
                for value in ("many", "0", "10001", "1.5", "1e3", "\u0661", "+-5", "5" * 99)
            ),
            *(("CODELAB_DB_WAIT", value) for value in ("soon", "-1", "3601", "nan", "inf", "1,5")),
            *(("AGENT_RUNTIME__MULTI_AGENT_MODE", value) for value in ("maybe", "2", "truth")),
            *(("AGENT_RUNTIME__LLM_THINKING", value) for value in ("much", "1023", "1.5")),
            ("AGENT_RUNTIME__LLM_PROVIDER", "gemini"),
            *(("CODELAB_LOG_LEVEL", value) for value in ("loud", "10", "info,debug")),
            *(("CODELAB_LOG_FORMAT", value) for value in ("xml", "json console")),
            *(("CODELAB_TRUSTED_PROXIES", value) for value in ("localhost", "10.0.0.0/33", "10.0.0.1;10.0.0.2")),
            ("AUTH_SERVICE__KEY_ENCRYPTION_KEY_FILE", "~nobody-has-this-name/key"),
            ("AUTH_SERVICE__ACCESS_TOKEN_LIFETIME", "9"),
        ],
    )
    def test_a_value_that_cannot_be_used_is_named(self, name: str, value: str) -> None:
        """One line with the variable and the value."""
        with pytest.raises(StartError) as refused:
            Settings.from_environ({name: value})

        assert str(refused.value).startswith(f"{name}: cannot use the value {value!r}: ")
        assert "\n" not in str(refused.value)

    def test_a_provider_needs_a_server(self) -> None:
        """Without an address nobody should be answered by the offline model unknowingly."""
        with pytest.raises(StartError, match="AGENT_RUNTIME__LLM_PROXY_URL is not set"):
            Settings.from_environ({"AGENT_RUNTIME__LLM_PROVIDER": "anthropic"})

    def test_a_model_server_needs_a_model(self) -> None:
        """Both or none."""
        with pytest.raises(StartError, match="AGENT_RUNTIME__LLM_MODEL is not set"):
            Settings.from_environ({"AGENT_RUNTIME__LLM_PROXY_URL": "http://h/v1"})

        alone = Settings.from_environ({"AGENT_RUNTIME__LLM_MODEL": "m"})
        assert alone.agent.llm_proxy_url is None


class TestSecrets:
    #: What may hold a secret, and a value that does.
    HOLDERS: ClassVar[dict[str, str]] = {
        "AGENT_RUNTIME__DB_URL": f"postgresql://u:{SECRET}@h/db",
        "AGENT_RUNTIME__LLM_PROXY_URL": f"https://u:{SECRET}@h/v1",
        "AGENT_RUNTIME__LLM_API_KEY": SECRET,
        "AGENT_RUNTIME__INTERNAL_API_KEY": f"k7Qe2VvYcA9mZs41LxTtB8uWn{SECRET}",
        "AUTH_SERVICE__DB_URL": f"postgresql://u@h/db?password={SECRET}",
        "AUTH_SERVICE__MASTER_KEY": SECRET,
    }

    def test_no_repr_shows_one(self) -> None:
        """Settings may be logged, or stand in a traceback."""
        settings = Settings.from_environ({**self.HOLDERS, "AGENT_RUNTIME__LLM_MODEL": "m"})

        assert settings.agent.llm_api_key == settings.auth.master_key == SECRET
        for part in (settings, settings.agent, settings.auth, settings.server):
            assert SECRET not in repr(part)
            assert SECRET not in str(part)

    def test_every_holder_is_known_as_one(self) -> None:
        """``Variable.secret`` says so, and a name that sounds like a secret is one."""
        assert {variable.name for variable in variables() if variable.secret} == set(self.HOLDERS)
        sounds = re.compile("KEY$|PASSWORD$|SECRET|TOKEN$")
        assert {variable.name for variable in variables() if sounds.search(variable.name)} <= set(self.HOLDERS)


class TestEnvFile:
    def test_the_forms_of_a_line(self, tmp_path: Path) -> None:
        """Comments and empty lines, ``export``, quotes, spaces, and everything after the first ``=``."""
        file = tmp_path / "my.env"
        file.write_text(
            "\ufeff# a comment\n\n  # another\nA=1\nexport B=two words\n C = ' quoted ' \nD=\"x\"\n"
            "E=a=b#c\nF=\nG='\nH='a\"\r\nA=last\n",
            encoding="utf-8",
        )

        assert read_env_file(file) == {
            "A": "last",
            "B": "two words",
            "C": " quoted ",
            "D": "x",
            "E": "a=b#c",
            "F": "",
            "G": "'",
            "H": "'a\"",
        }

    @pytest.mark.parametrize("line", [SECRET, f"={SECRET}", f"a b={SECRET}", f"1A={SECRET}", f"export {SECRET}"])
    def test_a_line_that_is_not_understood(self, line: str, tmp_path: Path) -> None:
        """The error names file and line and does not repeat the line."""
        file = tmp_path / "my.env"
        file.write_text(f"A=1\n{line}\n", encoding="utf-8")
        with pytest.raises(StartError, match=r"my\.env, line 2: NAME=value is expected") as refused:
            read_env_file(file)

        assert SECRET not in str(refused.value)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        """One line for a missing file, a folder and bytes that are no UTF-8."""
        (tmp_path / "bytes").write_bytes(b"A=\xff\n")
        for name, said in (("missing", "No such file"), (".", "Is a directory"), ("bytes", "not UTF-8")):
            with pytest.raises(StartError, match=said) as refused:
                read_env_file(tmp_path / name)
            assert "\n" not in str(refused.value)


class TestDocumentation:
    PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    ROW = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)

    def test_every_variable_is_documented_as_it_is(self) -> None:
        """The tables of docs/configuration.md have the same names, defaults and meanings, and no others."""
        described = {
            variable.name: (f"`{variable.default}`" if variable.default else "", variable.meaning)
            for variable in variables()
        }

        assert {name: (default, meaning) for name, default, meaning in self.ROW.findall(self.PAGE)} == described

    def test_each_table_belongs_to_a_module(self) -> None:
        """A variable stands in the section of the part that reads it, in the order of the code."""
        sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", self.PAGE, re.MULTILINE | re.DOTALL))
        kinds: dict[str, type[Any]] = {
            "Module `agent`": AgentSettings,
            "Module `auth`": AuthSettings,
            "The process": ServerSettings,
        }
        for title, kind in kinds.items():
            expected = [item.metadata["variable"].name for item in fields(kind)]
            assert [name for name, _, _ in self.ROW.findall(sections[title])] == expected

    def test_the_example_works(self) -> None:
        """The env file on the page is read without an error, and every name in it exists."""
        block = re.search(r"```sh\n(.*?)```", self.PAGE, re.DOTALL)
        assert block is not None
        names = dict(line.split("=", 1) for line in block[1].splitlines() if line and not line.startswith("#"))

        assert set(names) <= {variable.name for variable in variables()}
        assert len(names) > 3
        Settings.from_environ(names)


class _Environment(ast.NodeVisitor):
    """Find where a file touches the environment of the process."""

    NAMES = frozenset({"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"})

    def __init__(self) -> None:
        self.lines: list[int] = []

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """See ``os.environ``."""
        if node.attr in self.NAMES and isinstance(node.value, ast.Name) and node.value.id == "os":
            self.lines.append(node.lineno)
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """See ``from os import environ``."""
        if node.module == "os" and any(alias.name in self.NAMES for alias in node.names):
            self.lines.append(node.lineno)


def _touches_environment(source: str) -> list[int]:
    visitor = _Environment()
    visitor.visit(ast.parse(source))
    return visitor.lines


def test_the_check_of_the_environment_sees_every_form() -> None:
    """The test below would notice."""
    for source in ("import os\nos.environ['A']", "import os\nx = dict(os.environ)", "from os import environ, path"):
        assert _touches_environment(source)
    assert not _touches_environment("def f(environ): return environ.get('A')")


def test_nothing_else_reads_the_environment() -> None:
    """Settings come from one place; only what starts a process looks at the environment itself."""
    allowed = {
        SOURCE / "settings" / "__init__.py",
        SOURCE / "local.py",
        SOURCE / "cli" / "serve.py",
        SOURCE / "cli" / "db" / "common.py",
        SOURCE / "storage" / "pg_programs.py",
        SOURCE / "agent" / "mcp" / "stdio" / "child.py",
        *(SOURCE / "client").rglob("*.py"),
    }
    files = sorted(set(SOURCE.rglob("*.py")) - allowed)
    found = {str(path.relative_to(SOURCE)): _touches_environment(path.read_text(encoding="utf-8")) for path in files}

    assert len(files) > 30
    assert {path: lines for path, lines in found.items() if lines} == {}
