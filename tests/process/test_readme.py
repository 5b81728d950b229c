"""The README, the tutorial, the cookbooks and the guides work as printed: every shell block of a page, in order, in one
shell, as a user would type them after `make run`.

A block of `json`, `http` or `text` shows what the `sh` block before it prints. Ids, times and process numbers are
compared as such, whatever their value; `…` stands for anything. A block of `python` that begins with `# NAME.py` is a
file of that name, others are parts of something and not run. Lines that begin with `make` are not run: what
`make run` starts is started here the same way, on a free port instead of the default one; so are the nodes of clusters.
"""

import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.process.cli import ROOT, RUN_TIMEOUT_S, Cli, Environ, mode

README = (ROOT / "README.md").read_text()
PAGES = {
    "README.md": ("curl",),
    "docs/accounts.md": ("curl", "jq"),
    "docs/cluster.md": ("curl",),
    "docs/cookbook.md": (),
    "docs/curl.md": ("curl",),
    "docs/runbook.md": (),
    "docs/security.md": ("curl",),
    "docs/tutorial.md": ("curl",),
}
"""Each page with the programs that its commands need."""
OUTPUTS = ("json", "http", "text")
DEFAULT_ADDRESS = "127.0.0.1:8080"
CLUSTER_PORTS = re.compile(r"\b808(?=[1-3$%])")
"""Nodes 1, 2 and 3 of a cluster listen on 8081, 8082 and 8083; `808$n` or `808%s` in a loop."""
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSION_TIMEOUT_S = 600
"""A page is some seventy commands, each a start of Python, which takes seconds on a machine that is busy."""
_END = "=== end of block"
_FILE = re.compile(r"# (\w+\.py)\n")

_SAME = [
    (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
    (r"\b[0-9a-f]{12}-[0-9a-f]+\b", "<request id>"),
    (r"\b[0-9a-f]{32}\b", "<token id>"),
    (r'(?<="next_cursor":")[\w-]+', "<cursor>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z", "<time>"),
    (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "<date>"),
    (r"\b\d{13}\b", "<ms>"),
    (r"(?<=\(pid )\d+|(?<=\(process )\d+|(?<=RUNNING )\d+", "<pid>"),
    (r"\b(?:\d+[hms])+\b", "<uptime>"),
]
"""What differs from run to run, and what it is compared as."""


class Block(NamedTuple):
    """Commands, and what the README says they print (None: nothing is said)."""

    commands: str
    output: str | None


class User(Cli):
    """Somebody with a home folder and no KVS variable."""

    @property
    def home(self) -> Path:
        return self.folder / ".kvs"

    def environment(self, extra: Environ) -> dict[str, str]:
        environment = {**super().environment(extra), "HOME": str(self.folder), "NO_PROXY": "127.0.0.1"}
        del environment["KVS_HOME"]
        return environment


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    may_follow = False
    for language, body in _FENCE.findall(text):
        if language in OUTPUTS and may_follow:
            found[-1] = found[-1]._replace(output=body)
        elif language == "sh":
            found.append(Block("".join(line for line in body.splitlines(True) if not line.startswith("make ")), None))
        elif language == "python" and (name := _FILE.match(body)):
            found.append(Block(f"cat > {name[1]} <<'{_END}'\n{body}{_END}\n", ""))
        may_follow = language == "sh"
    return found


def comparable(text: str) -> str:
    text = " ".join(text.split())
    for pattern, name in _SAME:
        text = re.sub(pattern, name, text)
    return text


def agrees(printed: str, documented: str) -> bool:
    parts = [re.escape(part.strip()) for part in comparable(documented).split("…")]
    return re.fullmatch(r".*?".join(parts), comparable(printed)) is not None


def free_tens() -> str:
    """What stands before the last digit of four ports that are free, which end with 0, 1, 2 and 3. They are below those
    that systems give to whoever asks for any: a node that is stopped for a moment finds its port free again."""
    while True:
        tens = random.randrange(1_100, 3_200)
        with ExitStack() as listeners, suppress(OSError):
            for digit in range(4):
                listener = listeners.enter_context(socket.socket())
                listener.bind(("127.0.0.1", 10 * tens + digit))
            return str(tens)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """In a folder like that of the repository after `make run`, whose `kvs` is the one under test."""
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name, words in (("kvs", "-m kvs"), ("python", "")):
        program = bin_folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)
    user = User(tmp_path)
    yield user
    user.kill_all()


def run_session(user: User, environ: dict[str, str], commands: list[str]) -> list[tuple[str, str]]:
    """(exit code, output) of each block of commands, all in one shell. Remarks on standard error are part of it, the
    progress that curl shows there is not."""
    script = user.folder / "session.sh"
    script.write_text("exec 2>&1\n" + "".join(f"{block}printf '\\n{_END} %s\\n' $?\n" for block in commands))
    (user.folder / ".curlrc").write_text("silent\nshow-error\nmax-time = 30\n")
    done = subprocess.run(
        ["sh", str(script)],
        cwd=user.folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=SESSION_TIMEOUT_S,
        check=True,
    )
    pieces = re.split(rf"\n{_END} (\d+)\n", done.stdout)
    assert len(pieces) == 2 * len(commands) + 1, done.stdout
    return list(zip(pieces[1::2], pieces[0::2], strict=False))


def follow(user: User, text: str) -> None:
    """Do what `make run` does, then type what the text says, and compare what comes out."""
    tens = free_tens()
    port = f"{tens}0"
    make_run = [sys.executable, "-m", "kvs.daemon.quickstart", "run/kvs.yaml"]
    environ = user.environment({"KVS_PORT": port})
    subprocess.run(make_run, cwd=user.folder, env=environ, capture_output=True, timeout=RUN_TIMEOUT_S, check=True)
    with (user.folder / "run" / "kvs.yaml").open("a") as config:
        config.write(f"port: {port}\n")

    text = CLUSTER_PORTS.sub(tens, text).replace(DEFAULT_ADDRESS, f"127.0.0.1:{port}")
    session = blocks(text)
    results = run_session(user, user.environment({}), [block.commands for block in session])
    for block, (code, printed) in zip(session, results, strict=True):
        assert code == "0", (block.commands, printed)
        if block.output is not None:
            assert agrees(printed, block.output), f"{block.commands}\nprints\n{printed}\nand not\n{block.output}"


@pytest.mark.timeout(SESSION_TIMEOUT_S + RUN_TIMEOUT_S)
@pytest.mark.parametrize("page", PAGES)
def test_every_shell_block_works_as_printed(user: User, page: str) -> None:
    if missing := [name for name in PAGES[page] if shutil.which(name) is None]:
        pytest.skip(f"its commands need {missing}")
    follow(user, (ROOT / page).read_text())
    user.run("stop", "run/kvs.yaml")
    assert [one["config"] for one in user.status() if one["state"] == "RUNNING"] == [], "the page stops what it starts"
    for path in secret_files(user.folder / "run"):
        assert mode(path) == 0o600, path


def secret_files(folder: Path) -> list[Path]:
    """Those that hold tokens or keys."""
    return [path for pattern in ("**/*.auth", "**/auth", "**/token", "**/certs/*") for path in folder.glob(pattern)]


def test_every_page_that_says_so_is_run() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    says_so = re.compile(r"\b(?:lines|Everything here)\s+works?\s+as\s+(?:it|they)\s+stands?\b|\btype\s+the\s+lines\b")
    assert {path.relative_to(ROOT).as_posix() for path in pages if says_so.search(path.read_text())} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_what_their_commands_print(page: str) -> None:
    text = (ROOT / page).read_text()
    found = blocks(text)
    assert len(found) >= 5
    assert sum(block.output is not None for block in found) >= len(found) * 0.6
    if page == "README.md":
        languages = {
            language for language, body in _FENCE.findall(text) if language != "python" or not _FILE.match(body)
        }
        assert languages <= {"sh", *OUTPUTS}, "a block of another language is neither run nor compared"


def test_the_comparison_can_fail() -> None:
    shown = '{"uuid":"3f1c9a52-8d07-4e6b-9b1a-52c7d0e4a8f6","timestamp":1767225600000,"data":1}'
    assert agrees(shown.replace("3f1c9a52", "00000000").replace("1767225600000", "1800000000000"), shown)
    assert not agrees(shown.replace('"data":1', '"data":2'), shown)
    assert not agrees(shown.replace("1767225600000", "17"), shown)
    assert not agrees("", shown)
    assert not agrees('{"next_cursor":null}', '{"next_cursor":"xhG2cq"}')
    assert agrees(
        "NAME  STATE\nkvs  RUNNING  12  3s  /a/run/kvs.yaml", "NAME STATE\nkvs RUNNING 4711 12s …/run/kvs.yaml"
    )
    assert not agrees("kvs STOPPED 12 3s /a/run/kvs.yaml", "kvs RUNNING 4711 12s …/run/kvs.yaml")
