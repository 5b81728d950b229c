"""The commands beside those of a daemon's life."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kvs import __version__
from tests.process.cli import ALONE, Cli, Result, mode


def test_config_init(kvs: Cli) -> None:
    made = kvs.run("config", "init", "new.yaml")
    assert (made.code, made.out, made.err) == (0, "", "made new.yaml with default settings\n")
    path = kvs.folder / "new.yaml"
    assert mode(path) == 0o600
    path.write_text("mine")
    again = kvs.run("config", "init", "new.yaml")
    assert (again.code, again.err) == (1, "kvs: new.yaml exists already; it is left as it is\n")
    assert path.read_text() == "mine"
    (kvs.folder / "link.yaml").symlink_to("elsewhere.yaml")
    assert kvs.run("config", "init", "link.yaml").code == 1
    assert not (kvs.folder / "elsewhere.yaml").exists()


def test_config_check(kvs: Cli) -> None:
    kvs.run("config", "init", "new.yaml")
    good = kvs.run("config", "check", "new.yaml", environ={"KVS_PROT": "1"})
    assert (good.code, good.out) == (0, "")
    assert good.err == "warning: environment variable KVS_PROT is unknown; did you mean KVS_PORT?\nnew.yaml: ok\n"
    (kvs.folder / "bad.yaml").write_text(ALONE + "port: x\nprot: 1\n")
    bad = kvs.run("config", "check", "bad.yaml")
    assert bad.code == 2
    assert [line.split(": ")[:2] for line in bad.err.splitlines()] == [["kvs", "bad.yaml:3"], ["kvs", "bad.yaml:4"]]
    missing = kvs.run("config", "check", "none.yaml")
    assert (missing.code, missing.err) == (2, "kvs: none.yaml: cannot be read: No such file or directory\n")


def test_config_show(kvs: Cli) -> None:
    kvs.config(text="read_only: true\n")
    shown = kvs.run("config", "show", "node1.yaml", environ={"KVS_LOG_LEVEL": "debug"})
    assert shown.code == 0
    values = yaml.safe_load(shown.out)
    assert (values["read_only"], values["log_level"], values["max_revisions"]) == (True, "debug", 3)
    origins = {line.split(":")[0]: line.split("# ")[-1] for line in shown.out.splitlines()}
    assert [origins[name] for name in ("read_only", "log_level", "max_revisions")] == ["file", "environment", "default"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["strat", "a"], "'strat' is neither a command nor a configuration file; did you mean start?"),
        (["zzzz"], "'zzzz' is neither a command nor a configuration file"),
        (["start"], "Missing argument 'CONFIG...'"),
        (["config"], "Usage: kvs config"),
        (["config", "chekc"], "No such command 'chekc'"),
        (["--nonsense"], "No such option"),
        (["start", "a", "--timeout", "soon"], "Invalid value for '--timeout'"),
        (["logs", "a", "-n", "-1"], "Invalid value for '-n'"),
        (["completion", "tcsh"], "Invalid value"),
        ([], "Usage: kvs CONFIG.yaml"),
        (["./missing"], "is neither a command nor a configuration file"),
        (["."], "kvs: .: cannot be read: it is not a file"),
        (["status", "a\nb", "c"], "unexpected extra argument"),
    ],
)
def test_wrong_usage(kvs: Cli, words: list[str], text: str) -> None:
    result = kvs.run(*words)
    assert (result.code, result.out) == (2, "")
    assert text in result.err


def test_a_name_without_its_extension(kvs: Cli) -> None:
    kvs.config()
    result = kvs.run("node1")
    assert result.code == 2
    assert "to run that configuration: kvs node1.yaml" in result.err


def test_configurations_may_be_named_without_their_extension(kvs: Cli) -> None:
    path = kvs.config()
    (kvs.folder / "node1").mkdir()
    assert kvs.run("config", "check", "node1") == Result(0, "", "node1.yaml: ok\n")
    assert kvs.run("config", "show", "node1").out == kvs.run("config", "show", path).out
    assert kvs.run("cert", "init", "--config", "node1").code == 0
    missing = kvs.run("config", "check", "node2")
    assert (missing.code, missing.err) == (2, "kvs: node2.yaml: cannot be read: No such file or directory\n")
    elsewhere = kvs.folder / "elsewhere"
    elsewhere.mkdir()
    assert kvs.run("start", path).code == 0
    assert kvs.run("config", "check", "node1", cwd=elsewhere) == Result(0, "", f"{path}: ok\n")
    assert kvs.run("stop", path).code == 0


def test_version(kvs: Cli) -> None:
    assert kvs.run("--version").out == f"kvs {__version__}\n"


@pytest.mark.parametrize("words", [[], ["start"], ["stop"], ["status"], ["logs"], ["config", "show"], ["debug"]])
def test_help(kvs: Cli, words: list[str]) -> None:
    shown = kvs.run(*words, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("Usage: kvs")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(kvs: Cli, shell: str) -> None:
    script = kvs.run("completion", shell)
    assert script.code == 0
    assert f"_KVS_COMPLETE={shell}_complete" in script.out
    asked = {
        "COMP_WORDS": "kvs st",
        "COMP_CWORD": "1" if shell != "fish" else "st",
        "_KVS_COMPLETE": f"{shell}_complete",
    }
    words = kvs.run(environ=asked).out
    assert "start" in words
    assert "status" in words
    assert "restart" not in words


def test_the_command_line_is_quick_to_import() -> None:
    """Neither `--help` nor completion may wait for the server's libraries."""
    heavy = ["aiohttp", "plyvel", "uvloop", "structlog", "psutil", "yaml", "rich", "asyncio", "orjson"]
    code = f"import sys, kvs.__main__; print([name for name in {heavy} if name in sys.modules])"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    shown = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_make_conflict(kvs: Cli) -> None:
    made = kvs.run("debug", "make-conflict", "one", "two")
    assert (made.code, made.err) == (0, "")
    assert (kvs.folder / "one").is_dir()
    assert (kvs.folder / "two").is_dir()
    again = kvs.run("debug", "make-conflict", "one", "two")
    assert again.code == 1
    assert again.err.startswith("kvs: ")
    assert again.err.count("\n") == 1
