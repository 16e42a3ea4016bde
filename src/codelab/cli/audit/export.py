"""``codelab audit export``: the audit trails as JSON lines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
import msgspec

from codelab.cli.db.common import env_file_option, load_installation, module_option, rows_progress, run, stores_of
from codelab.errors import StartError
from codelab.storage.trail import count_trail, read_trail

if TYPE_CHECKING:
    from codelab.installation import Installation

__all__ = ("export",)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@module_option
@env_file_option
def export(file: Path | None, module: str, env_file: Path | None) -> None:
    """Write the rows of the audit trails as JSON, one a line, in their order; to FILE, or to standard output.

    Each line has the members of its row, the name of its module, and what its chain needs: seq, payload_hash, mac.
    """
    run(_export(file, module, env_file))


async def _export(file: Path | None, module: str, env_file: Path | None) -> int:
    installation = load_installation(env_file)
    if file is None:
        await _write(sys.stdout.buffer, installation, module, quiet=True)
        return 0
    try:
        with file.open("xb") as stream:
            await _write(stream, installation, module, quiet=False)
    except FileExistsError:
        raise StartError(f"{file} is there already; name another file.") from None
    except OSError as error:
        raise StartError(f"{file} cannot be written: {error.strerror}.") from None
    return 0


async def _write(stream: IO[bytes], installation: Installation, module: str, *, quiet: bool) -> None:
    with rows_progress(quiet=quiet) as progress:
        for store in stores_of(installation, module):
            progress.begin(store.module, await count_trail(store.url, store.storage))
            async for page in read_trail(store.url, store.storage):
                for row in page:
                    stream.write(msgspec.json.encode({"module": store.module, **row}) + b"\n")
                progress.advance(len(page))
    stream.flush()
