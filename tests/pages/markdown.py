"""The pages of the checkout, and what stands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Where pages are: the top level, and these folders with all that is below them.
FOLDERS = ("fastav_plugin", "hooks", "model_overrides", "deploy", "tests")
#: Symlinks to folders that are searched themselves.
LINKS = (ROOT / "fastav_plugin/hooks", ROOT / "fastav_plugin/model_overrides")

_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Page:
    """One Markdown file.

    Attributes:
        path: of the file.
        text: its content.
    """

    path: Path
    text: str

    @property
    def name(self) -> str:
        """Path below the checkout."""
        return str(self.path.relative_to(ROOT))

    @property
    def prose(self) -> str:
        """The text without fenced blocks."""
        return _FENCE.sub("", self.text)

    def fences(self) -> list[tuple[str, str]]:
        """Language and content of every fenced block, without its indentation."""
        return [
            (language, re.sub(rf"^{indentation}", "", block, flags=re.MULTILINE))
            for indentation, language, block in _FENCE.findall(self.text)
        ]

    def blocks(self, language: str) -> list[str]:
        """Content of the fenced blocks of one language."""
        return [block for found, block in self.fences() if found == language]

    def targets(self) -> list[str]:
        """Targets of links and pictures."""
        return [str(target) for target in _LINK.findall(_CODE.sub("", self.prose))]

    def anchors(self) -> set[str]:
        """What "#..." of a link may name: headings as GitHub and GitLab spell them."""
        found: list[str] = []
        for heading in _HEADING.findall(self.prose):
            words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
            slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            count = sum(
                re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found
            )
            found.append(f"{slug}-{count}" if count else slug)
        return set(found)

    def code(self) -> list[str]:
        """What stands in backticks in the prose."""
        return [str(words) for words in _CODE.findall(self.prose)]


def _find() -> list[Page]:
    found = sorted(ROOT.glob("*.md"))
    for folder in FOLDERS:
        found += sorted((ROOT / folder).rglob("*.md"))
    own = [path for path in found if not any(link in path.parents for link in LINKS)]
    return [Page(path, path.read_text(encoding="utf-8")) for path in own]


#: By name.
PAGES = {page.name: page for page in _find()}
README = PAGES["README.md"]
