"""Commands whose surroundings are not as they should be: full or closed streams, secrets with a line end, arguments
that are no text, folders that may not be read. Each tells it in one line."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.cli import RUN_TIMEOUT_S, Cli, Result
from tests.process.site import everyday

FULL = "standard output: No space left on device"
CLOSED = "standard output: Bad file descriptor"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with everyday(tmp_path_factory.mktemp("surroundings")) as cli:
        assert cli.run("set", "a/b", "1").code == 0
        yield cli


def shell(kvs: Cli, script: str, *words: str | bytes) -> Result:
    """A script of the shell, in which `kvs` is the command and $1… are `words`."""
    done = subprocess.run(
        ["sh", "-c", f'kvs() {{ "$KVS" -m kvs "$@"; }}; {script}', "sh", *words],
        cwd=kvs.folder,
        env=kvs.environment({"KVS": sys.executable}),
        capture_output=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def assert_one_line(result: Result, code: int, text: str) -> None:
    assert (result.code, result.err.count("\n")) == (code, 1), result
    assert text in result.err, result


# --- streams ---


@pytest.mark.parametrize(
    "words",
    [
        "get a/b",
        "ls",
        "ls -0",
        "tree --json",
        "watch --since snapshot --count 1",
        "export",
        "status",
        "logs site",
        "config show site",
        "completion bash",
        "--help",
        "--version",
    ],
)
def test_a_full_disk_behind_standard_output_is_told(here: Cli, words: str) -> None:
    assert_one_line(shell(here, f"kvs {words} >/dev/full"), 1, FULL)


def test_closed_streams_are_told_where_they_are_needed(here: Cli) -> None:
    assert_one_line(shell(here, "kvs get a/b >&-"), 1, CLOSED)
    assert_one_line(shell(here, "kvs export >&-"), 1, CLOSED)
    for words in ("set a/c", "import", "import --format csv", "context add x --url http://x --token-file -"):
        assert_one_line(shell(here, f"kvs {words} <&-"), 1, "standard input: Bad file descriptor")
    assert here.run("get", "a/c").code == 3
    assert shell(here, "kvs set a/d 1 <&- >&- 2>&-") == Result(0, "", "")
    assert shell(here, "kvs set a/d 2 2>/dev/full") == Result(0, "", "")
    assert shell(here, "kvs get a/d <&-") == Result(0, "2", "")


def test_what_an_output_has_no_letters_for_is_shown_as_an_escape(here: Cli) -> None:
    assert here.run("set", "lone/key", "1").code == 0
    shown = Result(0, "lone/\n\\u2514\\u2500\\u2500 key\n", "1 keys\n")
    assert shell(here, "PYTHONIOENCODING=latin-1 kvs tree lone") == shown


def test_a_folder_that_is_gone_is_told(here: Cli) -> None:
    gone = "mkdir gone; cd gone; rmdir ../gone;"
    assert shell(here, f"{gone} kvs get a/b") == Result(0, "1", "")
    assert_one_line(shell(here, f"{gone} kvs import nothing.ndjson"), 1, "the current folder is gone")


# --- what is given ---


def test_the_line_end_of_a_secret_is_no_part_of_it(here: Cli) -> None:
    assert here.run("get", "a/b", environ={"KVS_TOKEN": "abc\r\n", "KVS_CONTEXT": " here\n"}) == Result(0, "1", "")
    url = here.status("site")["url"]
    assert here.run("get", "a/b", environ={"KVS_URL": f"{url}\n", "KVS_TOKEN": "\n"}) == Result(0, "1", "")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["get", "a/b", "--token", "secret\nword"], "Authorization"),
        (["set", "a/b", "1", "--if-match", "a\r\nb"], "If-Match"),
        (["set", "a/b", "1", "-t", "text/plain\nX-Y: z"], "Content-Type"),
        (["watch", "--since", "1\n2"], "Last-Event-ID"),
        (["whoami", "--token", "secret\x7fword"], "Authorization"),
    ],
)
def test_what_fits_into_no_header_field_is_wrong_usage(here: Cli, words: list[str], field: str) -> None:
    result = here.run(*words)
    assert_one_line(result, 2, f"what is given for {field} holds a line end")
    assert "secret" not in result.all


@pytest.mark.parametrize(
    "words",
    [
        'ls "$1"',
        'tree "$1"',
        'watch "$1"',
        'export --prefix "$1"',
        'user create "$1" --token x',
        'token create --user "$1" --token x',
        'token revoke "$1" --token x',
        'set a/b 2 --ttl "$1"',
        'set a/b 2 --if-match "$1"',
        'set a/b 2 --wait 1 --wait-timeout "$1"',
        'meta a/b --owner "$1"',
        'get a/b --token "$1"',
        'get a/b --url "http://$1"',
        'get a/b --url "http://$1..b"',
        'context add x --url "http://$1"',
    ],
)
def test_arguments_that_are_no_text_are_wrong_usage(here: Cli, words: str) -> None:
    assert_one_line(shell(here, f"kvs {words}", b"\xff"), 2, "kvs: ")


def test_letters_that_the_locale_does_not_have_are_told(here: Cli) -> None:
    assert_one_line(shell(here, 'LC_ALL=POSIX PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 kvs ls "$1"', "ü"), 2, "UTF-8")


def test_a_file_whose_name_is_no_text_is_told_and_the_others_are_imported(here: Cli) -> None:
    folder = here.folder / "names"
    folder.mkdir()
    for name in ("good", "\udcff"):
        (folder / name).write_bytes(b"1")
    done = here.run("import", "names/", "--prefix", "names/")
    assert (done.code, done.err.count("\n")) == (1, 2)
    assert "?: its name is no UTF-8 text" in done.err
    assert here.run("get", "names/good").out == "1"


# --- permissions ---


@pytest.fixture
def ordinary() -> list[str]:
    """The beginning of a command that has no more rights to files than anybody."""
    words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("setpriv cannot take rights away here, so messages about missing ones are NOT checked")
    return words


def without_rights(kvs: Cli, ordinary: list[str], *words: str | Path) -> Result:
    done = subprocess.run(
        [*ordinary, sys.executable, "-m", "kvs", *map(str, words)],
        cwd=kvs.folder,
        env=kvs.environment({}),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_a_home_that_may_not_be_read_is_told(kvs: Cli, ordinary: list[str]) -> None:
    pids = kvs.home / "pids"
    pids.mkdir(parents=True)
    for folder in (pids, kvs.home):
        folder.chmod(0)
        result = without_rights(kvs, ordinary, "status")
        folder.chmod(0o700)
        assert_one_line(result, 1, f"kvs: cannot read {pids}: Permission denied")


def test_a_daemon_has_stopped_even_if_its_pid_file_stays(kvs: Cli, ordinary: list[str]) -> None:
    config = kvs.config()
    kept = f"warning: cannot remove {kvs.pid_file()}: Permission denied"
    for force in ([], ["--force", "--timeout", "0"]):
        assert without_rights(kvs, ordinary, "start", config).code == 0
        kvs.pid_file().parent.chmod(0o500)
        stopped = without_rights(kvs, ordinary, "stop", config, *force)
        again = without_rights(kvs, ordinary, "stop", config)
        kvs.pid_file().parent.chmod(0o700)
        assert_one_line(stopped, 0, kept)
        assert_one_line(again, 1, "cannot remove")


def test_data_that_may_not_be_read_are_told(kvs: Cli, ordinary: list[str]) -> None:
    config = kvs.config()
    data = kvs.folder / "data-node1"
    data.mkdir(mode=0)
    result = without_rights(kvs, ordinary, "audit", "verify", config)
    data.chmod(0o700)
    assert_one_line(result, 1, f"{data / 'CURRENT'}: Permission denied")
