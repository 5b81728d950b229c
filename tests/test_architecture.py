"""Imports go one way, cores stay pure, files and functions stay small."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "kvs").rglob("*.py"))

ALLOWED = {
    "": set(),
    "storage": {""},
    "cluster": {"", "storage"},
    "auth": {""},
    "client": {""},
    "tls": {""},
    "server": {"", "auth", "storage", "cluster", "tls"},
    "daemon": {"", "auth", "client", "storage", "cluster", "server", "tls"},
}
"""Package to the packages it may import besides itself; "" is the root modules."""

ONLY_IN = {
    "plyvel": ("kvs/storage/leveldb.py",),
    "aiohttp": ("kvs/server/", "kvs/cluster/transport.py", "kvs/client/"),
    "apscheduler": ("kvs/server/scheduler.py", "kvs/cron.py"),
    "asyncio": ("kvs/cluster/runner.py", "kvs/cluster/transport.py", "kvs/server/", "kvs/daemon/", "kvs/client/"),
    "argon2": ("kvs/auth/passwords.py",),
    "prometheus_client": ("kvs/server/exposition.py",),
    "jwt": ("kvs/auth/tokens.py",),
    "uvloop": ("kvs/daemon/",),
    "click": ("kvs/daemon/",),
    "rich": ("kvs/daemon/progress.py",),
    "psutil": ("kvs/daemon/",),
    "pytest": ("kvs/client/pytest_plugin.py",),
    "ssl": ("kvs/tls/", "kvs/server/", "kvs/cluster/transport.py", "kvs/daemon/trust.py", "kvs/client/"),
    "cryptography": ("kvs/tls/", "kvs/auth/tokens.py", "kvs/server/cursor.py", "kvs/cluster/audit_heads.py"),
}
"""Library to the only places that may know it."""

PURE = [
    "kvs/types.py",
    "kvs/errors.py",
    "kvs/limits.py",
    "kvs/keys.py",
    "kvs/actions.py",
    "kvs/durations.py",
    "kvs/meter.py",
    "kvs/storage/version.py",
    "kvs/storage/audit.py",
    "kvs/storage/keyspace.py",
    "kvs/storage/codec.py",
    "kvs/storage/current.py",
    "kvs/storage/batch.py",
    "kvs/storage/revisions.py",
    "kvs/storage/retention.py",
    "kvs/auth/accounts.py",
    "kvs/auth/documents.py",
    "kvs/auth/passwords.py",
    "kvs/auth/permissions.py",
    "kvs/auth/principal.py",
    "kvs/auth/scopes.py",
    "kvs/auth/tokens.py",
    "kvs/client/endpoints.py",
    "kvs/client/errors.py",
    "kvs/client/model.py",
    "kvs/client/sse.py",
    "kvs/client/wire.py",
    "kvs/cluster/audit_check.py",
    "kvs/cluster/audit_heads.py",
    "kvs/cluster/audit_kept.py",
    "kvs/cluster/audit_run.py",
    "kvs/cluster/trail.py",
    "kvs/cluster/attempt.py",
    "kvs/cluster/clock.py",
    "kvs/cluster/conflicts.py",
    "kvs/cluster/events.py",
    "kvs/cluster/merging.py",
    "kvs/cluster/merkle.py",
    "kvs/cluster/node.py",
    "kvs/cluster/peer_clocks.py",
    "kvs/cluster/address.py",
    "kvs/cluster/answering.py",
    "kvs/cluster/chance.py",
    "kvs/cluster/conduct.py",
    "kvs/cluster/checks.py",
    "kvs/cluster/detector.py",
    "kvs/cluster/gossip.py",
    "kvs/cluster/hearing.py",
    "kvs/cluster/members.py",
    "kvs/cluster/membership.py",
    "kvs/cluster/membership_events.py",
    "kvs/cluster/messages.py",
    "kvs/cluster/myself.py",
    "kvs/cluster/outbox.py",
    "kvs/cluster/replies.py",
    "kvs/cluster/roster.py",
    "kvs/cluster/suspicion.py",
    "kvs/cluster/tally.py",
    "kvs/cluster/upkeep.py",
    "kvs/cluster/time_of.py",
    "kvs/cluster/voice.py",
    "kvs/server/audit_reading.py",
    "kvs/server/authorisation.py",
    "kvs/server/catching_up.py",
    "kvs/server/cursor.py",
    "kvs/server/feed.py",
    "kvs/server/merges.py",
    "kvs/server/meters.py",
    "kvs/server/parse.py",
    "kvs/server/ratelimit.py",
    "kvs/server/refusals.py",
    "kvs/server/render.py",
]
IMPURE = {"asyncio", "time", "random", "os", "socket", "logging", "structlog", "threading", "plyvel", "pathlib"}

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)}: relative import"
            yield node.module or ""


def _package(module: str) -> str:
    """`kvs.storage.codec` is in `storage`, `kvs.errors` in the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else ""


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_imports_go_one_way(path: Path) -> None:
    if path.name == "__main__.py":
        return  # the entry point hands over to the daemon
    package = path.relative_to(ROOT / "kvs").parts[0] if path.parent.name != "kvs" else ""
    for module in _imports(path):
        if module == "kvs" or module.startswith("kvs."):
            assert _package(module) in ALLOWED[package] | {package}, f"{_name(path)} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_libraries_stay_where_they_belong(path: Path) -> None:
    for module in _imports(path):
        places = ONLY_IN.get(module.partition(".")[0])
        assert places is None or _name(path).startswith(places), f"{_name(path)} imports {module}"


@pytest.mark.parametrize("name", PURE)
def test_cores_are_pure(name: str) -> None:
    path = ROOT / name
    assert not {module.partition(".")[0] for module in _imports(path)} & IMPURE
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(ast.parse(path.read_text())))


def test_there_are_no_import_cycles() -> None:
    modules = {_name(path)[:-3].replace("/", ".").removesuffix(".__init__"): path for path in SOURCES}
    graph = {module: {m for m in _imports(path) if m in modules} for module, path in modules.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join((*trail, module))}"
        if module not in done:
            for other in graph[module]:
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))], ids=_name)
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{_name(path)}: {node.name} has {length} lines"
