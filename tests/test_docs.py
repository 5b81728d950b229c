"""The documentation names what is there and nothing else: routes, problem codes, limits, commands, options, exit codes,
key prefixes, bytes, files and links. What is there is read from the code, so that what is new is missed at once.

That these checks can fail is shown in test_docs_readers.py. Settings are compared in test_docs_settings.py, and the
commands of the README run in process/test_readme.py.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import click
import pytest

from kvs import limits
from kvs.daemon import failure
from kvs.daemon.cli import cli, run_config
from kvs.errors import KvsError
from kvs.server.router import Router
from kvs.server.routes import routes
from kvs.storage import keyspace
from kvs.storage.codec import Stored, encode
from kvs.storage.state import Progress, encode_progress
from tests.markdown import anchors, links, prose, rows, section, spans
from tests.records import record

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
}
API, ARCHITECTURE = PAGES["docs/api.md"], PAGES["docs/architecture.md"]
OPERATIONS, STORAGE = PAGES["docs/operations.md"], PAGES["docs/storage-format.md"]
METHODS = "GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS"


# --- routes ---

ROUTES = list(routes(*(Mock() for _ in inspect.signature(routes).parameters)))


def requests(text: str) -> list[tuple[str, str]]:
    """(Method, path) of every code span that names both, without a query."""
    return [found for span in spans(text) for found in re.findall(rf"^({METHODS}) (/[^\s?]*)(?:\?\S*)?$", span)]


def endpoint_rows(text: str) -> set[tuple[str, str]]:
    """(Method, template) of every row of a table that begins with both."""
    return {found for cells in rows(text) for found in requests(cells[0])}


def test_the_tables_of_endpoints_are_that_of_the_router() -> None:
    assert endpoint_rows(API) == {(route.method, route.template) for route in ROUTES}


@pytest.mark.parametrize("page", PAGES)
def test_every_request_that_is_written_about_has_a_route(page: str) -> None:
    router = Router(ROUTES)
    for method, path in requests(PAGES[page]):
        router.resolve(method, path)


# --- problem codes ---


class Code(NamedTuple):
    """`pattern` is a regular expression; `status` is None where the code does not say."""

    pattern: str
    status: int | None

    def fits(self, code: str, status: int) -> bool:
        return re.fullmatch(self.pattern, code) is not None and self.status in (None, status)


def error_classes() -> dict[str, type[KvsError]]:
    """Every class of errors that clients see, by its name."""
    found, waiting = {}, [KvsError]
    while waiting:
        one = waiting.pop()
        found[one.__name__] = one
        waiting += [other for other in one.__subclasses__() if other.__module__.startswith("kvs.")]
    return found


def codes_in(source: str, classes: dict[str, type[KvsError]]) -> Iterator[Code]:
    """The codes of the errors that this source makes: those after `code=`, and those of classes that are raised or
    called without it. A `code=code` that hands on what a caller gave is none."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), keywords=keywords):
                given = [keyword.value for keyword in keywords if keyword.arg == "code"]
            case ast.Raise(exc=ast.Name(id=name)):
                given = []
            case _:
                continue
        status = classes[name].status if name in classes else None
        for value in given:
            if not (isinstance(value, ast.Name) and value.id == "code"):
                yield from (Code(pattern, status) for pattern in _patterns(value))
        if name in classes and not given:
            yield Code(re.escape(classes[name].code), status)


def _patterns(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Constant(value=str(text)):
            yield re.escape(text)
        case ast.JoinedStr(values=parts):
            yield "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"\w+" for part in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from _patterns(one)
            yield from _patterns(other)
        case _:
            raise ValueError(f"line {value.lineno}: this test cannot read the code out of {ast.unparse(value)}")


def code_rows(text: str) -> list[tuple[str, int]]:
    """(Code, status) of every row of a table of codes."""
    return [(code, int(cells[1])) for cells in rows(text) for code in spans(cells[0]) if cells[1].isdigit()]


CODES = {code for path in sorted((ROOT / "kvs").rglob("*.py")) for code in codes_in(path.read_text(), error_classes())}
DOCUMENTED_CODES = code_rows(section(API, "## Errors"))


@pytest.mark.parametrize("code", sorted(CODES, key=str), ids=lambda code: code.pattern)
def test_every_problem_code_is_in_the_table(code: Code) -> None:
    assert any(code.fits(*documented) for documented in DOCUMENTED_CODES)


@pytest.mark.parametrize("documented", DOCUMENTED_CODES, ids=lambda documented: documented[0])
def test_every_problem_code_of_the_table_is_sent(documented: tuple[str, int]) -> None:
    assert any(code.fits(*documented) for code in CODES)
    assert DOCUMENTED_CODES.count(documented) == 1


def test_no_class_has_a_code_that_is_never_sent() -> None:
    own = {vars(one)["code"] for one in error_classes().values() if "code" in vars(one)}
    assert {code for code in own if not any(re.fullmatch(sent.pattern, code) for sent in CODES)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_status_with_a_code_is_in_the_table(page: str) -> None:
    for status, code in re.findall(r"\b([45]\d\d)\s+`([a-z_]+)`", prose(PAGES[page])):
        assert (code, int(status)) in DOCUMENTED_CODES


# --- limits ---

_BYTES = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "days": 86400.0}


def amount(text: str, name: str) -> float:
    """A value as it is written, in the unit that the limit's name ends with."""
    number, _, unit = text.replace(",", "").partition(" ")
    if unit in _SECONDS:
        return float(number) * _SECONDS[unit] * (1000 if name.endswith("_MS") else 1)
    return float(number) * (_BYTES[unit] if unit else 1)


def limit_rows(text: str) -> dict[str, float]:
    return {name: amount(cells[1], name) for cells in rows(text) for name in spans(cells[0])}


CLIENT_LIMITS = limit_rows(section(API, "## Limits"))
INNER_LIMITS = limit_rows(section(ARCHITECTURE, "## Limits inside"))


def test_every_limit_is_in_one_table_with_its_value() -> None:
    assert set(CLIENT_LIMITS) & set(INNER_LIMITS) == set()
    there = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert there == {**CLIENT_LIMITS, **INNER_LIMITS}


def test_limits_that_refuse_a_request_are_among_those_of_clients() -> None:
    for module in ("keys.py", "server/parse.py", "server/body.py", "server/request_id.py"):
        assert imported_limits((ROOT / "kvs" / module).read_text()) <= set(CLIENT_LIMITS), module


def imported_limits(source: str) -> set[str]:
    return {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module == "kvs.limits"
        for alias in node.names
    }


# --- commands, options, exit codes ---


class Option(NamedTuple):
    command: str
    names: frozenset[str]
    default: str
    """As `--help` shows it; empty where it shows none."""


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, command


COMMANDS = {"kvs": run_config, **dict(commands(cli, "kvs"))}


def usage(path: str) -> str:
    """The command with its arguments, as the documentation writes it."""
    arguments = [p for p in COMMANDS[path].params if isinstance(p, click.Argument)]
    names = [(p.metavar or (p.name or "").upper(), p.required) for p in arguments]
    return " ".join([path, *(name if required or name[0] == "[" else f"[{name}]" for name, required in names)])


def options() -> set[Option]:
    return {
        Option(path, frozenset(p.opts), str(p.default).removesuffix(".0") if p.show_default else "")
        for path, command in COMMANDS.items()
        for p in command.params
        if isinstance(p, click.Option) and not p.hidden
    }


def option_rows(text: str, paths: list[str]) -> set[Option]:
    """Options of a table with the columns: option, of, default. A group of commands stands for all of them."""
    found = set()
    for option, of, default, *_ in rows(text):
        names = frozenset(span.split()[0] for span in spans(option))
        for name in spans(of):
            members = [path for path in paths if path == f"kvs {name}" or path.startswith(f"kvs {name} ")]
            found |= {Option(path, names, default.strip("`")) for path in members or [f"kvs {name}"]}
    return found


def test_the_table_of_commands_is_that_of_the_program() -> None:
    documented = {span for cells in rows(section(OPERATIONS, "## Commands")) for span in spans(cells[0])}
    documented = {span for span in documented if span.startswith("kvs ")}
    everywhere = {f"kvs {name}" for p in cli.get_params(click.Context(cli)) for name in p.opts if name.startswith("--")}
    named = {re.sub(r"^kvs CONFIG\.yaml$", "kvs CONFIG", span) for span in documented}
    assert named == {usage(path) for path in COMMANDS} | everywhere


def test_the_table_of_options_is_that_of_the_program() -> None:
    assert option_rows(section(OPERATIONS, "### Options"), list(COMMANDS)) == options()


def test_every_command_has_help() -> None:
    assert [path for path, command in COMMANDS.items() if not command.help] == []


def test_the_table_of_exit_codes_is_that_of_the_program() -> None:
    documented = [int(cells[0]) for cells in rows(section(OPERATIONS, "### Exit codes"))]
    assert sorted(documented) == sorted(v for n, v in vars(failure).items() if n.isupper() and isinstance(v, int))


# --- what is on disk ---


def prefix_rows(text: str) -> list[str]:
    return [span for cells in rows(text) for span in spans(cells[0])]


def kept_free(text: str) -> list[str]:
    """The letters of "`a` and `b` are kept free"."""
    found = re.findall(r"(`\w`(?:(?:,| and) `\w`)*) (?:is|are) kept free", text)
    return [letter for letters in found for letter in re.findall(r"`(\w)`", letters)]


def test_the_table_of_prefixes_is_that_of_the_store() -> None:
    named = (value for name, value in vars(keyspace).items() if name.isupper() and isinstance(value, bytes))
    used = [value.decode() for value in named if len(value) == 1]
    text = section(STORAGE, "## Keys")
    assert sorted(prefix_rows(text)) == sorted(used)
    assert all(cells[1].startswith(cells[0][:-1]) for cells in rows(text)), "a row shows its own prefix"
    free = kept_free(text)
    noted = re.findall(r"^ +(\w(?:, \w)*) +kept free", keyspace.__doc__ or "", re.MULTILINE)
    assert free == [letter for letters in noted for letter in letters.split(", ")]
    assert not set(free) & set(used)


def test_the_bytes_that_are_shown_are_those_that_are_stored() -> None:
    shown = re.sub(r"\s", "", re.sub(r" {2,}[a-z].*$", "", STORAGE, flags=re.MULTILINE))
    entry = keyspace.data_key(b"site/a")
    for stored in (Stored(record(), seq=7, generation=2, kept=1), Stored(record(deleted=True), 8, 3, 2)):
        assert encode(entry, stored).hex() in shown
    k = keyspace.data_key(b"k")
    built = (
        keyspace.time_row(1, 2, k),
        keyspace.expiry_row(1, k),
        keyspace.tombstone_row(1, k),
        keyspace.change_row(1),
        keyspace.revision_row(k, 1),
        encode_progress(Progress(1, 2, 3, 4, 5)),
    )
    assert [row.hex() for row in built if row.hex() not in shown] == []


# --- links and files ---


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert dead_links(ROOT / page, PAGES[page]) == []


def dead_links(page: Path, text: str) -> list[str]:
    return [target for target in links(text) if not _leads_somewhere(page, text, target)]


def _leads_somewhere(page: Path, text: str, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = page.parent / name if name else page
    if not path.exists():
        return False
    return not anchor or anchor in anchors(path.read_text() if name else text)


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    missing = [name for name in named_files(PAGES[page]) if not places(name)]
    assert missing == []


def named_files(text: str) -> list[str]:
    """Code spans that name a source, a page, or something in a folder of the repository or of the package."""
    paths = [span for span in spans(text) if re.fullmatch(r"\w[\w.-]*(/[\w.*-]+)*/?", span)]
    folders = {path.name for parent in (ROOT, ROOT / "kvs") for path in parent.iterdir() if path.is_dir()}
    return [p for p in paths if p.endswith((".py", ".md")) or ("/" in p and p.partition("/")[0] in folders - {"run"})]


def places(name: str) -> list[Path]:
    """The files of that name, from the root, the package, or the package of storage."""
    return [path for base in ("", "kvs", "kvs/storage") for path in (ROOT / base).glob(name.rstrip("/"))]


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/development.md"])
def test_names_that_are_said_to_be_in_a_file_are_there(page: str) -> None:
    for name, file in names_in_files(PAGES[page]):
        sources = "".join(path.read_text() for path in places(file))
        last = name.rpartition(".")[2]
        assert re.search(rf"^ *(?:async )?(?:def|class) {last}\b|^{last}\b.* = ", sources, re.MULTILINE), (name, file)


def names_in_files(text: str) -> list[tuple[str, str]]:
    """(Name, file) of "`file.py`, `Name`" and "`Name` (`file.py`" and "`Name` in `file.py`"."""
    name, file = r"`([A-Za-z_][\w.]*)`", r"`([\w/]+\.py)`"
    found = re.findall(rf"{name}\s+(?:\(|in\s+){file}", prose(text))
    return found + [(n, f) for f, n in re.findall(rf"{file}, {name}", prose(text)) if not n.endswith(".py")]
