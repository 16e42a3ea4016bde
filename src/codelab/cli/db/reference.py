"""``codelab db import-reference``: take over an installation of the reference system."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from codelab.cli.db.common import Report, env_file_option, json_option, load_installation, rows_progress, run
from codelab.reference.keys import AUDIENCE, ISSUER

if TYPE_CHECKING:
    from codelab.reference_import import Outcome

__all__ = ("import_reference",)


@click.command("import-reference")
@click.option("--agent-db", required=True, metavar="URL", help="The reference's database of sessions.")
@click.option("--auth-db", required=True, metavar="URL", help="The reference's database of users.")
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of its public_key.pem or private_key.pem: people stay logged in.",
)
@click.option("--owner", metavar="NAME", help="User who owns the sessions; needed unless there is only one.")
@click.option("--issuer", default=ISSUER, show_default=True, help="Its AUTH_SERVICE__JWT_ISSUER.")
@click.option("--audience", default=AUDIENCE, show_default=True, help="Its AUTH_SERVICE__JWT_AUDIENCE.")
@click.option("--dry-run", is_flag=True, help="Print the report and change nothing.")
@json_option
@env_file_option
def import_reference(
    agent_db: str,
    auth_db: str,
    keys: Path | None,
    owner: str | None,
    issuer: str,
    audience: str,
    env_file: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    r"""Take over an installation of the reference system into the databases of this one.

    Its databases (SQLite files or PostgreSQL) are only read, also while it runs. Passwords go on working. What is there
    already is left as it is, so the command may be run again. No server may run on this installation meanwhile.

    \b
    Example:
      codelab db import-reference --agent-db sqlite:////srv/old/agent_runtime.db \
        --auth-db sqlite:////srv/old/auth.db --keys /srv/old/keys --owner alice --dry-run
    """
    run(_import(agent_db, auth_db, keys, owner, issuer, audience, env_file, dry_run=dry_run, as_json=as_json))


async def _import(
    agent_db: str,
    auth_db: str,
    keys: Path | None,
    owner: str | None,
    issuer: str,
    audience: str,
    env_file: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from codelab.reference import read_token_key
    from codelab.reference_import import import_reference

    installation = load_installation(env_file)
    key = read_token_key(keys, issuer, audience) if keys else None
    with rows_progress(quiet=as_json) as progress:
        outcome = await import_reference(
            installation,
            agent_url=agent_db,
            auth_url=auth_db,
            key=key,
            owner=owner,
            dry_run=dry_run,
            progress=progress,
        )
    _tell(Report(as_json), outcome, dry_run=dry_run)


def _tell(report: Report, outcome: Outcome, *, dry_run: bool) -> None:
    repairs = [*outcome.auth.repairs, *outcome.agent.repairs]
    skips = [*outcome.auth.skips, *outcome.agent.skips]
    repaired = Counter(note.kind for note in repairs)
    counts: dict[str, Any] = {}
    for kind, count in {**outcome.auth.counts, **outcome.agent.counts}.items():
        counts[kind] = msgspec.to_builtins(count) | {"repaired": repaired[kind]}
        report.line(
            f"{kind:18} {count.read:>8} read  {count.imported:>8} imported  {count.already_there:>8} already there"
            f"  {repaired[kind]:>6} repaired  {count.skipped:>8} skipped"
        )
    for title, notes in (("repaired", repairs), ("skipped", skips)):
        for note in notes:
            report.line(f"{title}: {note.kind}: {note.where}: {note.what}")
    report.line(f"The sessions belong to {outcome.owner}." + (" Dry run: nothing was changed." if dry_run else ""))
    report.finish(
        {
            "dry_run": dry_run,
            "owner": outcome.owner,
            "counts": counts,
            "repairs": msgspec.to_builtins(repairs),
            "skipped": msgspec.to_builtins(skips),
        }
    )
