"""What tests read out of Markdown: sections, rows of tables, code spans, headings and links."""

import re
from collections.abc import Iterator

_FENCE = re.compile(r"^(```+|~~~+).*?^\1$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\[\]]*\]\(([^()\s]+)\)")


def prose(text: str) -> str:
    """Everything but blocks of code."""
    return _FENCE.sub("", text)


def section(text: str, heading: str) -> str:
    """What stands under a heading (given with its `#`), up to the next heading of its level or above. Raises ValueError
    if there is no such heading, or two."""
    level = len(heading) - len(heading.lstrip("#"))
    parts = re.split(rf"^{re.escape(heading)}$", prose(text), flags=re.MULTILINE)
    if len(parts) != 2:
        raise ValueError(f"{len(parts) - 1} headings {heading!r}")
    return re.split(rf"^#{{1,{level}}} ", parts[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of every table, without the heads of tables."""
    head = True
    for line in text.splitlines():
        if not line.startswith("|"):
            head = True
        elif re.fullmatch(r"[|:\- ]+", line):
            head = False
        elif not head:
            yield [cell.strip() for cell in line.strip("|").split("|")]


def spans(text: str) -> list[str]:
    """Texts in backticks."""
    return _SPAN.findall(prose(text))


def anchors(text: str) -> set[str]:
    """What a link to a heading says behind its `#`, as GitHub makes it."""
    found: set[str] = set()
    for _, heading in _HEADING.findall(prose(text)):
        slug = plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while slug in found:
            number += 1
            slug = f"{plain}-{number}"
        found.add(slug)
    return found


def links(text: str) -> list[str]:
    """Where links go, those to other hosts left out."""
    without_code = _SPAN.sub("`…`", prose(text))
    return [target for target in _LINK.findall(without_code) if not re.match(r"[a-z]+:", target)]
