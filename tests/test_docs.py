"""Tables in docs/ are what the code says; `python -m tests.test_docs` writes them anew."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.documents import ROOT
from xdecoder.decoder.attention import XDECODER, AttentionTable
from xdecoder.weights import PUBLISHED


def attention(table: AttentionTable) -> str:
    """Row looks at column, then where the row looks in the image."""
    head = ["row looks at column", *table.groups, "in the image"]
    rows = [head, ["---"] * len(head)]
    for group in table.groups:
        seen = [str(table.self_attention.get(group, {}).get(other, "–")) for other in table.groups]
        rows.append([f"**{group}**", *seen, table.cross_attention.get(group, "does not look")])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def published() -> str:
    rows = [["name", "file", "backbone", "queries", "million weights", "can do", "published", "licence"]]
    rows.append(["---"] * len(rows[0]))
    for each in PUBLISHED.values():
        file = f"[{each.file}]({each.address})"
        sizes = [str(each.queries), str(each.millions)]
        rows.append([f"`{each.name}`", file, each.backbone, *sizes, each.tasks, each.numbers, each.licence])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


TABLES = {"docs/network.md": attention(XDECODER), "docs/published.md": published()}


def written_anew(path: str, text: str) -> str:
    """The page with its table, which stands between two comments, replaced."""
    return re.sub(
        r"(<!-- table -->\n).*?(\n<!-- end -->)", lambda found: found[1] + TABLES[path] + found[2], text, flags=re.DOTALL
    )


@pytest.mark.parametrize("path", TABLES)
def test_tables_are_what_the_code_says(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert "<!-- table -->" in text and written_anew(path, text) == text, "run python -m tests.test_docs"


def test_every_page_of_the_site_is_there() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:\n")[2]
    pages = {page for entry in yaml.safe_load(site) for page in entry.values()}
    assert pages <= {path.name for path in (ROOT / "docs").glob("*.md")}


def test_the_site_is_built(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site needs mkdocs (pip install '.[docs]')")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    assert (tmp_path / "glossary/index.html").is_file()


if __name__ == "__main__":
    for page in TABLES:
        old = (ROOT / page).read_text(encoding="utf-8")
        (ROOT / page).write_text(written_anew(page, old), encoding="utf-8")
