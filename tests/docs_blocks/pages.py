"""The pages, and the fenced code blocks on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.commands import ROOT

PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "leaderboards" / "README.md",
)


@dataclass(frozen=True)
class Block:
    """One fenced code block: what it says it holds, its text, and where it begins ("docs/faq.md:12")."""

    language: str
    text: str
    where: str


def blocks(page: Path) -> list[Block]:
    """All fenced code blocks of a page, those inside lists and quotes too, in order."""
    found = []
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block") and token.map is not None:
            where = f"{page.relative_to(ROOT)}:{token.map[0] + 1}"
            found.append(Block(token.info.strip(), token.content, where))
    return found


def inline(page: Path) -> list[str]:
    """All inline code of a page, in order: of paragraphs and of tables."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [child.content for token in tokens for child in token.children or () if child.type == "code_inline"]
