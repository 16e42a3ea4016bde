"""``codelab policy explain``, and the page about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from codelab.cli import cli
from tests.deploy.test_doc_commands import DOCS, Reader, agrees, normal
from tests.deploy.test_doc_commands import blocks as code_of

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

PAGE = DOCS / "policy.md"
READ = '{"path": "src/app.py"}'


def explain(*more: str, agent: str = "coder", tool: str = "read_file", arguments: str = READ, **given: Any) -> Result:
    """Run the command."""
    words = ["policy", "explain", "--agent", agent, "--tool", tool, "--arguments", arguments, *more]
    return CliRunner(env={"AGENT_RUNTIME__POLICY_FILE": ""}).invoke(cli, words, **given)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of rules that the page shows."""
    path = tmp_path / "policy.yaml"
    text = PAGE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    path.write_text(text, encoding="utf-8")
    return path


def test_it_says_what_becomes_of_a_call() -> None:
    """Without a file the built-in rules, and the effect first."""
    shown = explain()

    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines() == [
        "allow: Reading is allowed",
        "  + built-in  ask    tool *",
        "  > built-in  allow  tool read_file",
    ]


def test_arguments_come_from_standard_input_too(file: Path) -> None:
    """``-``, as a script would give them."""
    shown = explain("--file", str(file), arguments="-", input='{"path": "secrets/x"}')

    assert shown.stdout.startswith("deny: Secrets stay on this machine\n")


def test_the_file_is_that_of_the_server(file: Path, tmp_path: Path) -> None:
    """``--env-file`` is read as ``codelab serve`` reads it."""
    settings = tmp_path / "codelab.env"
    settings.write_text(f"AGENT_RUNTIME__POLICY_FILE={file}\n", encoding="utf-8")
    shown = explain("--env-file", str(settings), arguments='{"path": "secrets/x"}')

    assert shown.stdout.startswith("deny: ")


@pytest.mark.parametrize("path", ["\\ud800", "\\u0000", "\udcff", "[]", "\u202e\x1b"])
def test_text_that_cannot_be_kept_is_judged_as_the_gate_judges_it(path: str) -> None:
    """Lone surrogates, NUL and control characters end in no traceback."""
    shown = explain(arguments=f'{{"path": "{path}", "start_line": {10**25}}}')

    assert shown.exit_code in {0, 2}, shown.output
    assert shown.exception is None or isinstance(shown.exception, SystemExit)


def test_it_prints_json(file: Path) -> None:
    """One document, the same as that of the route."""
    shown = explain("--file", str(file), "--json", arguments='{"path": "secrets/x"}')
    found = json.loads(shown.stdout)

    assert set(found) == {"effect", "reason", "trace"}
    assert found["effect"] == "deny"
    assert [step["rule"]["source"] for step in found["trace"] if step["decided"]] == ["policy.yaml:13"]


def test_it_holds_a_policy_to_what_is_expected() -> None:
    """Exit code 0 when the effect is the expected one, else 1."""
    assert explain("--expect", "allow").exit_code == 0
    other = explain("--expect", "deny")

    assert other.exit_code == 1
    assert "expected deny, but the effect is allow" in other.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"agent": "nobody"}, "agent: must be one of orchestrator"),
        ({"arguments": "{"}, "--arguments: is not JSON"),
        ({"arguments": "[]"}, "--arguments: a JSON object is expected"),
        ({"arguments": "[" * 100_000}, "--arguments: is not JSON"),
        ({"arguments": '{"path": 1e999}'}, "--arguments: is not JSON"),
    ],
)
def test_what_cannot_be_used_ends_with_two(given: dict[str, str], told: str) -> None:
    """One line on standard error that says what."""
    shown = explain(**given)

    assert shown.exit_code == 2
    assert shown.stderr.startswith(f"codelab: {told}")
    assert shown.stderr.count("\n") == 1


def test_a_file_that_cannot_be_used_ends_with_two(tmp_path: Path) -> None:
    """The option, the file and the line."""
    file = tmp_path / "policy.yaml"
    file.write_text("rules:\n  - {tool: x, effect: ask}\n", encoding="utf-8")
    shown = explain("--file", str(file))

    assert shown.exit_code == 2
    assert shown.stderr.startswith(f"codelab: --file: {file}, line 2: tool: there is no x")


def test_commands_print_what_the_page_shows(file: Path, tmp_path: Path) -> None:
    """Each command of the page, in order, with the file of the page."""
    reader = Reader(tmp_path, {})
    shown = code_of(PAGE, "console")
    commands = [part.partition("\n") for block in shown for part in block.removeprefix("$ ").split("\n$ ")]

    assert len(commands) >= 5
    for command, _, output in commands:
        printed = normal(reader.type(command))
        assert agrees(normal(output), printed), (command, printed)
