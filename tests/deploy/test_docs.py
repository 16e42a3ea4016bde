from __future__ import annotations

import re
from pathlib import Path

import pytest

from codelab.db import parse_url
from codelab.errors import StartError

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DATABASES = (ROOT / "docs" / "database-configuration.md", ROOT / "docs" / "postgres-quickstart.md")
URL = re.compile(r"\b(?:sqlite|postgres)[a-z0-9+]*://[^\s`')]*")
#: What the page shows because it is refused.
REFUSED = {"sqlite://", "sqlite:///:memory:", "sqlite://file.db"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A link to another file of the repository finds that file."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))

    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", DATABASES, ids=lambda page: page.name)
def test_every_database_url_is_understood(page: Path) -> None:
    """A URL can be copied from the page and works; one that is shown as refused is refused."""
    urls = set(URL.findall(page.read_text(encoding="utf-8"))) - {"sqlite:///"}

    assert len(urls) > 3
    for url in urls - REFUSED:
        expected = "sqlite" if url.startswith("sqlite") else "postgresql"
        assert parse_url(url, "AGENT_RUNTIME__DB_URL").dialect == expected
    for url in urls & REFUSED:
        with pytest.raises(StartError, match="SQLite needs a file"):
            parse_url(url, "AGENT_RUNTIME__DB_URL")
