"""The command ``codelab chat``. Everything heavy is imported when it runs, so that ``codelab --help`` stays fast."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ("chat",)


@click.command(
    epilog="""\b
Examples:
  codelab chat                               talk in this folder, on your own local server
  codelab chat --continue                    go on with this folder's latest session
  codelab chat --agent architect             begin with another agent
  codelab chat --url https://codelab.example.org
  codelab chat --prompt "what does this project do?"
  codelab chat --prompt "add tests" --approve all --json

\b
Exit codes: 0 done, 1 the turn failed or was cancelled, 2 wrong usage, no connection, no login.
""",
)
@click.option("--url", metavar="URL", help="Talk to this server. Default: your own local one, started when needed.")
@click.option("--username", metavar="NAME", help="Log in to the server as this user.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input (with --username).")
@click.option("--device", is_flag=True, help="Log in with a code, in the browser of another machine.")
@click.option("--insecure-http", is_flag=True, help="Allow http:// to another machine: the password travels in clear.")
@click.option("--continue", "resume", is_flag=True, help="Go on with the latest session of this folder.")
@click.option("--session", metavar="ID", help="Go on with this session.")
@click.option("--agent", metavar="NAME", help="Talk to this agent, for example coder or architect.")
@click.option("--model", metavar="NAME", help="Have this model answer; /models in the chat lists them.")
@click.option("--prompt", metavar="TEXT", help="Send one message, print the answer and leave.")
@click.option(
    "--image",
    "images",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --prompt: show the model this image (PNG, JPEG, GIF or WebP); may be given several times.",
)
@click.option(
    "--approve",
    type=click.Choice(["all", "none"]),
    help="Allow every call without asking, or none. With --prompt the default is none. All extends no limit of a turn.",
)
@click.option(
    "--mcp-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help='Run the MCP servers that this file names, beside those of .mcp.json in the folder: {"mcpServers": {…}}.',
)
@click.option("--no-mcp", is_flag=True, help="Run no MCP servers.")
@click.option("--json", "as_json", is_flag=True, help="With --prompt: print one JSON object instead of text.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    hidden=True,
    help="Folder of the local server, the history and the logins (CODELAB_DATA_DIR).",
)
def chat(
    url: str | None,
    username: str | None,
    *,
    password_stdin: bool,
    device: bool,
    insecure_http: bool,
    resume: bool,
    session: str | None,
    agent: str | None,
    model: str | None,
    images: tuple[Path, ...],
    prompt: str | None,
    approve: str | None,
    mcp_file: Path | None,
    no_mcp: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Chat with coding agents in the current folder.

    The agents run on the server; what they do runs here: they read, list and search the files of this folder, and ask
    you before they write a file, make a directory or run a command. Answer y, n or edit. They never leave the folder.

    AGENTS.md in this folder, when there is one, is given to the agents as instructions. The MCP servers that .mcp.json
    in it names run here when you allow it.
    """
    import os
    import sys

    if as_json and prompt is None:
        raise click.UsageError("--json needs --prompt.")
    if images and prompt is None:
        raise click.UsageError("--image needs --prompt.")
    if mcp_file and no_mcp:
        raise click.UsageError("--mcp-file and --no-mcp exclude each other.")
    if resume and session:
        raise click.UsageError("--continue and --session exclude each other.")
    if prompt is not None and not prompt.strip():
        raise click.UsageError("--prompt: the message is empty.")
    if url is None and (username or password_stdin or device or insecure_http):
        raise click.UsageError("--username, --password-stdin, --device and --insecure-http need --url.")
    if password_stdin and not username:
        raise click.UsageError("--password-stdin needs --username.")
    if prompt is None and (password_stdin or not (sys.stdin.isatty() and sys.stdout.isatty())):
        raise click.UsageError("A conversation needs a terminal; use --prompt in scripts.")
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    if password == "":
        raise click.UsageError("--password-stdin: standard input holds no password.")

    import asyncio

    from codelab.client.app import Options, run
    from codelab.client.console import escape_line
    from codelab.client.errors import ClientError

    options = Options(
        url=url,
        username=username,
        password=password,
        insecure_http=insecure_http,
        device=device,
        resume=resume,
        session=session,
        agent=agent,
        model=model,
        images=images,
        prompt=prompt,
        approve="all" if approve == "all" else "none" if approve == "none" else None,
        json=as_json,
        mcp_file=mcp_file,
        mcp=not no_mcp,
        data_dir=data_dir,
    )
    try:
        code = run(options, dict(os.environ))
    except ClientError as error:
        click.echo(f"Error: {escape_line(str(error))}", err=True)
        code = 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("Left.", err=True)
        code = 1
    sys.exit(code)
