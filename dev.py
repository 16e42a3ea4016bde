#!/usr/bin/env python3
"""Set up and run codelab with nothing but Python: ``python3 dev.py`` prints the commands.

The first run makes `.venv` beside this file from a hashed lock; later runs find a stamp there and start at once.
"""

import sys

# Everything in this file has to parse on Python 3.6, so that an old Python gets this line and no SyntaxError.
# That is why there is no `from __future__ import annotations` here.
if sys.version_info < (3, 11):
    sys.exit("codelab needs Python 3.11 or newer; this is %d.%d" % sys.version_info[:2])

import contextlib
import hashlib
import importlib.util
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ("main",)

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / ".stamp"
SCRIPTS = VENV / ("Scripts" if sys.platform == "win32" else "bin")
SUFFIX = ".exe" if sys.platform == "win32" else ""
UNFINISHED = "unfinished"
PYTHON = SCRIPTS / ("python" + SUFFIX)
LOCKS = {"runtime": "requirements.lock", "dev": "requirements-dev.lock"}
#: What the image is made from that has the extra too.
MCP_LOCK = "requirements-mcp.lock"
COMPILE = [
    *("pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--quiet", "--group", "build"),
]

USAGE = """\
usage: python3 dev.py COMMAND [ARGUMENTS]

  chat    talk to the agents in this terminal, about the folder you are in
  serve   run the server: http://127.0.0.1:8000
  test    run the tests, on SQLite and on a real PostgreSQL
  lint    check style, types and architecture
  bench   run the benchmarks
  lock    write requirements.lock, requirements-mcp.lock and requirements-dev.lock anew

All other arguments go to the command: python3 dev.py serve --port 9000
More about one command:                python3 dev.py test --help

The first run installs what it needs into .venv; nothing outside this folder is changed.
"""

HELP = {
    "test": """\
usage: python3 dev.py test [PYTEST ARGUMENTS]

Runs pytest in four processes, since each waits now and then. Every argument goes to pytest:

  python3 dev.py test tests/auth            one folder
  python3 dev.py test -k approval -x        by name; stop at the first failure
  python3 dev.py test -n 0                  one process (as --pdb and -p no:xdist do)
  python3 dev.py test --soak                the long tests too
  python3 dev.py test -- --help             pytest's own help
""",
    "lint": """\
usage: python3 dev.py lint

Runs ruff check, ruff format --check, mypy and lint-imports, all of them, and says which failed.
Repair what can be repaired: .venv/bin/ruff check --fix . && .venv/bin/ruff format .
""",
    "bench": """\
usage: python3 dev.py bench [ARGUMENTS]

Runs the benchmarks (python -m benchmarks). Every argument goes to them; python3 dev.py bench -- --help lists them.
""",
    "lock": """\
usage: python3 dev.py lock [UV ARGUMENTS]

Writes all locks from pyproject.toml with uv: the one on PATH, or one installed for the moment. What is locked stays
as it is unless pyproject.toml says otherwise:

  python3 dev.py lock --upgrade                    everything to its newest version
  python3 dev.py lock --upgrade-package litestar   one package
""",
}


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code (2 for one that does not exist)."""
    commands = {"chat": codelab, "serve": codelab, "test": test, "lint": lint, "bench": bench, "lock": lock}
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    name, rest = arguments[0], list(arguments[1:])
    if name not in commands:
        sys.stderr.write("dev.py: there is no command %r\n\n%s" % (name, USAGE))
        return 2
    if rest[:1] in (["-h"], ["--help"]) and name in HELP:
        sys.stdout.write(HELP[name])
        return 0
    if rest[:1] == ["--"]:
        rest = rest[1:]
    return commands[name](name, rest)


def codelab(name: str, arguments: Sequence[str]) -> int:
    """Become `codelab chat` or `codelab serve`, in the folder where the user is."""
    ensure("runtime")
    return become([str(SCRIPTS / ("codelab" + SUFFIX)), name, *arguments])


def test(_name: str, arguments: Sequence[str]) -> int:
    """Become pytest; an own `-n` comes later on the line and wins."""
    ensure("dev")
    single = {"--pdb", "--trace", "no:xdist", "-pno:xdist"}.intersection(arguments)
    # Hundreds of processes import the same code; without its byte code each of them would compile it anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.chdir(ROOT)
    return become([str(PYTHON), "-m", "pytest", *([] if single else ["-n", "4", "--dist", "worksteal"]), *arguments])


def lint(_name: str, arguments: Sequence[str]) -> int:
    """Run all checks, also after one has failed."""
    if arguments:
        sys.stderr.write("dev.py lint takes no arguments\n")
        return 2
    ensure("dev")
    checks = ("ruff check .", "ruff format --check .", "mypy", "lint-imports")
    failed = []
    for check in checks:
        say("lint: " + check)
        program, *options = check.split()
        if run([str(SCRIPTS / (program + SUFFIX)), *options]) != 0:
            failed.append(check)
    say("lint: failed: %s" % ", ".join(failed) if failed else "lint: all %d checks passed" % len(checks))
    return 1 if failed else 0


def bench(_name: str, arguments: Sequence[str]) -> int:
    """Become the benchmarks, which are run from the repository."""
    if not (ROOT / "benchmarks" / "__main__.py").exists():
        sys.stderr.write("dev.py: there is no benchmarks/__main__.py here\n")
        return 1
    ensure("dev")
    os.chdir(ROOT)
    return become([str(PYTHON), "-m", "benchmarks", *arguments])


def lock(_name: str, arguments: Sequence[str]) -> int:
    """Resolve the runtime lock, that with the extra on top of exactly those versions, then the development lock."""
    with uv_program() as uv:
        runtime = [*COMPILE, "-o", LOCKS["runtime"], *arguments]
        mcp = [*COMPILE, "--extra", "mcp", "-c", LOCKS["runtime"], "-o", MCP_LOCK, *arguments]
        dev = [*COMPILE, "--group", "dev", "-c", MCP_LOCK, "-o", LOCKS["dev"], *arguments]
        for command in (runtime, mcp, dev):
            code = run([uv, *command])
            if code != 0:
                return code
    say("wrote %s, %s and %s" % (LOCKS["runtime"], MCP_LOCK, LOCKS["dev"]))
    return 0


def stamp_of(kind: str) -> str:
    """Name an installation by all that decides what is in it."""
    digest = hashlib.sha256()
    for part in (sys.version, str(ROOT), kind):
        digest.update(part.encode() + b"\0")
    for file in (LOCKS[kind], "pyproject.toml"):
        digest.update((ROOT / file).read_bytes() + b"\0")
    return kind + " " + digest.hexdigest()


def is_installed(kind: str) -> bool:
    """Tell whether `.venv` is complete for `kind`; a development install has all of the runtime."""
    try:
        found = STAMP.read_text(encoding="utf-8")
    except OSError:
        return False
    return found in {stamp_of(kind), stamp_of("dev")} and PYTHON.exists()


def ensure(kind: str) -> None:
    """Install `kind` unless it is there. Exits with one line when that cannot be done."""
    if is_installed(kind):
        return
    with exclusive():
        if not is_installed(kind):
            install(kind)


def install(kind: str) -> None:
    """Fill `.venv`; the stamp is written last, so what was interrupted is made anew the next time."""
    uv = shutil.which("uv")
    if not uv:
        require_venv()
    started = time.monotonic()
    say("installing %s into .venv, once ..." % LOCKS[kind])
    if VENV.exists() and not is_usable(with_pip=not uv):
        shutil.rmtree(VENV)
    if not VENV.exists():
        base = getattr(sys, "_base_executable", None) or sys.executable
        make = [uv, "venv", "-q", "--python", base] if uv else [base, "-m", "venv"]
        need([*make, str(VENV)], "make .venv")
    STAMP.write_text(UNFINISHED, encoding="utf-8")
    if uv:
        options = ["-q", "--python", str(PYTHON)]
        need([uv, "pip", "sync", *options, "--require-hashes", LOCKS[kind]], "install " + LOCKS[kind])
        pip = [uv, "pip", "install", *options]
    else:
        pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
        need([*pip, "--require-hashes", "-r", LOCKS[kind]], "install " + LOCKS[kind])
    need([*pip, "--no-deps", "--no-build-isolation", "-e", "."], "install codelab itself")
    STAMP.write_text(stamp_of(kind), encoding="utf-8")
    say("installed in %.0f s" % (time.monotonic() - started))


def is_usable(*, with_pip: bool) -> bool:
    """Tell whether `.venv` is worth keeping: not left half-filled, this very Python, with pip (which uv leaves out)."""
    if not PYTHON.exists() or (STAMP.exists() and STAMP.read_text(encoding="utf-8") == UNFINISHED):
        return False
    import subprocess

    program = "import sys%s; sys.stdout.write(sys.version)" % (", pip" if with_pip else "")
    done = subprocess.run([str(PYTHON), "-c", program], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout == sys.version


def require_venv() -> None:
    """Exit with the line that helps where a distribution leaves a part of the standard library out."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit("dev.py: this Python has no %s: apt install python3-venv (or install uv)" % " and no ".join(missing))


@contextlib.contextmanager
def uv_program() -> Iterator[str]:
    """Give the uv on PATH, or one that lives in a temporary folder until the block ends."""
    found = shutil.which("uv")
    if found:
        yield found
        return
    require_venv()
    import tempfile

    with tempfile.TemporaryDirectory(prefix="codelab-uv-") as folder:
        say("installing uv for the moment ...")
        need([sys.executable, "-m", "venv", folder], "make a temporary environment")
        scripts = Path(folder) / SCRIPTS.name
        need([str(scripts / ("python" + SUFFIX)), "-m", "pip", "install", "-qq", "uv"], "install uv")
        yield str(scripts / ("uv" + SUFFIX))


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Let one dev.py install at a time. The lock is on this file, beyond its end: it leaves nothing behind."""
    with open(__file__, "r+b") as file:
        waiting = False
        while not try_lock(file.fileno()):
            if not waiting:
                say("another dev.py is installing; waiting for it ...")
            waiting = True
            time.sleep(0.1)
        yield


def try_lock(descriptor: int) -> bool:
    """Take the lock if it is free; closing the file gives it back, also when the process is killed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1 << 30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def become(command: list[str]) -> int:
    """Replace this process, so that signals and the exit code are the command's own."""
    if sys.platform == "win32":
        return run(command, cwd=None)
    sys.stdout.flush()
    return os.execv(command[0], command)


def run(command: list[str], cwd: Path | None = ROOT) -> int:
    """Run a command with its output on our own, in the repository unless told otherwise, and return its exit code."""
    import subprocess

    return subprocess.call(command, cwd=cwd)


def need(command: list[str], purpose: str) -> None:
    """Run a step of the installation; exit with one line after its own output when it fails."""
    code = run(command)
    if code != 0:
        sys.exit("dev.py: could not %s (%s ended with %d)" % (purpose, Path(command[0]).name, code))


def say(line: str) -> None:
    """Write a line of progress where it does not mix with a command's output."""
    sys.stderr.write("codelab: %s\n" % line)
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
