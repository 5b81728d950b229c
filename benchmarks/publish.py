"""`python -m benchmarks.publish`: the figures of docs/performance.md, its pictures, and the few of them that the README
shows, from the JSON of a run.

    python -m benchmarks.publish [RUN.json]

Without a run the figures are made anew from the one that is there, docs/performance.json.
"""

import json
import sys
from pathlib import Path

from benchmarks import report

DOCS = Path(__file__).parent.parent / "docs"
RUN = DOCS / "performance.json"
PAGE = DOCS / "performance.md"
README = DOCS.parent / "README.md"
BEGIN = "<!-- figures of docs/performance.json, made by `python -m benchmarks.publish` -->"
END = "<!-- end of the figures -->"


def filled_in(page: str, figures: str) -> str:
    """The page with the figures of a run between its two marks. Raises ValueError when it has not both."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no place for the figures")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def main(arguments: list[str]) -> None:
    from benchmarks import plots  # drawing needs matplotlib, the table does not

    found = json.loads(Path(arguments[0]).read_text() if arguments else RUN.read_text())
    report.write_json(RUN, found)
    PAGE.write_text(filled_in(PAGE.read_text(), report.markdown(found)))
    README.write_text(filled_in(README.read_text(), report.summary(found)))
    for file in plots.draw(found, DOCS / "plots"):
        print(file.relative_to(DOCS.parent))


if __name__ == "__main__":
    main(sys.argv[1:])
