"""What test_docs.py reads out of texts and sources: that its checks can fail."""

from pathlib import Path

import pytest

from kvs.errors import KvsError
from tests import test_docs as docs
from tests.markdown import anchors, links, rows, section, spans

PAGE = """\
# A page

Text with `code`, and `GET /kv/{key}?ttl=1h`.

## First

| head | `not this` |
|---|---|
| `GET /a/{n}` | `x` |
| `PUT /a` `POST /a` | 1,024 |

```sh
# not a heading
| not | a row |
[not a link](gone.md)
```

### Under `it`, too

## First
"""


def test_a_page_is_taken_apart() -> None:
    assert section(PAGE, "### Under `it`, too").strip() == ""
    assert list(rows(PAGE)) == [["`GET /a/{n}`", "`x`"], ["`PUT /a` `POST /a`", "1,024"]]
    assert spans(PAGE)[:2] == ["code", "GET /kv/{key}?ttl=1h"]
    assert anchors(PAGE) == {"a-page", "first", "first-1", "under-it-too"}
    assert links("[a\nb](c.md#d) and `[no](e.md)` and [there](https://f.g/h)") == ["c.md#d"]
    for heading in ("## Second", "## First"):
        with pytest.raises(ValueError, match="headings"):
            section(PAGE, heading)


def test_endpoints() -> None:
    assert docs.endpoint_rows(PAGE) == {("GET", "/a/{n}"), ("PUT", "/a"), ("POST", "/a")}
    assert docs.requests(PAGE)[0] == ("GET", "/kv/{key}")


class Teapot(KvsError):
    status = 418
    code = "teapot"


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ('raise Teapot("x")', [("teapot", 418)]),
        ("raise Teapot", [("teapot", 418)]),
        ('errors.Teapot("x", code="cold")', [("cold", 418)]),
        ('refuse("x", code="cold" if late else "hot")', [("cold", None), ("hot", None)]),
        ('Teapot("x", code=f"{kind}_cold")', [(r"\w+_cold", 418)]),
        ("super().__init__(detail, code=code)", []),
        ("Other()", []),
    ],
)
def test_codes_in_a_source(source: str, codes: list[tuple[str, int | None]]) -> None:
    assert list(docs.codes_in(source, {"Teapot": Teapot})) == codes


def test_a_code_that_cannot_be_read_is_told() -> None:
    with pytest.raises(ValueError, match="CODES"):
        list(docs.codes_in("Teapot('x', code=CODES[1])", {"Teapot": Teapot}))


def test_codes_fit_with_their_status() -> None:
    assert docs.code_rows("|a|b|\n|---|---|\n| `cold` | 418 |\n") == [("cold", 418)]
    assert docs.Code(r"\w+_cold", 418).fits("tea_cold", 418)
    assert docs.Code("cold", None).fits("cold", 400)
    assert not docs.Code("cold", 418).fits("cold", 400)
    assert not docs.Code("cold", 418).fits("very_cold", 418)


def test_amounts() -> None:
    written = {"X_MAX_BYTES": "16 KiB", "X_PER_S": "2 MiB", "X_TIMEOUT_S": "1.5 s", "X_DELAY_MS": "5,000 ms"}
    assert [docs.amount(text, name) for name, text in written.items()] == [16384, 2097152, 1.5, 5000]
    assert (docs.amount("1 h", "X_MS"), docs.amount("2 days", "X_S"), docs.amount("1,000", "X")) == (
        3.6e6,
        172800,
        1000,
    )
    with pytest.raises(KeyError):
        docs.amount("3 feet", "X")
    assert docs.imported_limits("from kvs.limits import A, B\nfrom kvs.keys import C") == {"A", "B"}


def test_options_of_commands_and_groups() -> None:
    table = "|o|of|default|\n|---|---|---|\n| `-n`, `--lines N` | `logs`, `user` | 9 |\n| `--gone` | `none` | |\n"
    names = frozenset({"-n", "--lines"})
    paths = ["kvs logs", "kvs user list", "kvs user show", "kvs users"]
    assert docs.option_rows(table, paths) == {
        *(docs.Option(path, names, "9") for path in paths[:3]),
        docs.Option("kvs none", frozenset({"--gone"}), ""),
    }


def test_prefixes() -> None:
    assert docs.prefix_rows("|a|\n|---|\n| `d` |\n| `s` |\n") == ["d", "s"]
    assert docs.kept_free("So `a`, `b` and `c` are kept free.") == ["a", "b", "c"]


def test_dead_links(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# There\n")
    text = "# Here\n[a](#here) [b](#gone) [c](other.md#there) [d](other.md#gone) [e](gone.md) [f](other.md)"
    page.write_text(text)
    assert docs.dead_links(page, text) == ["#gone", "other.md#gone", "gone.md"]


def test_files_and_names() -> None:
    text = (
        "`server/gone.py`, `Gone` and `Node.plan` (`cluster/node.py`) and `f`\nin `keys.py`; `a/b`, `/kv/a`, `tests/`"
    )
    assert docs.named_files(text) == ["server/gone.py", "cluster/node.py", "keys.py", "tests/"]
    assert [bool(docs.places(name)) for name in docs.named_files(text)] == [False, True, True, True]
    assert docs.names_in_files(text) == [
        ("Node.plan", "cluster/node.py"),
        ("f", "keys.py"),
        ("Gone", "server/gone.py"),
    ]
