"""The link checker finds what it is for, and passes the project's own pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "check_links.py"


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True, check=False)


def test_the_projects_own_links_resolve() -> None:
    result = check(REPOSITORY)
    assert result.returncode == 0, result.stdout + result.stderr


def test_good_links_pass(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("# A `heading`, twice\n\n# A heading, twice\n")
    (tmp_path / "README.md").write_text(
        "# Top\n[page](docs/page.md) [up](#top)\n"
        "[one](docs/page.md#a-heading-twice) [two](docs/page.md#a-heading-twice-1)\n"
        "[site](https://example.org/x)\n\n```\n[not a link](nowhere.md)\n```\n"
    )
    result = check(tmp_path)
    assert (result.returncode, result.stdout) == (0, "5 links on 2 pages, 0 broken\n")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("gone.md", "no such file"),
        ("README.md#gone", "no such heading"),
        ("#gone", "no such heading"),
        ("https:///path", "an address without a host"),
        ("ftp://example.org/x", "a link of kind ftp:"),
    ],
)
def test_a_broken_link_is_named_with_its_line(tmp_path: Path, target: str, reason: str) -> None:
    (tmp_path / "README.md").write_text(f"# Top\n\n[text]({target})\n")
    result = check(tmp_path)
    assert result.returncode == 1
    assert result.stdout.splitlines()[0] == f"README.md:3: {target}: {reason}"


def test_a_missing_picture_is_broken(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("![picture](picture.png)\n")
    assert "picture.png: no such file" in check(tmp_path).stdout
