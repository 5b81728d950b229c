"""A daemon asked by schemathesis whatever its OpenAPI document allows, and what it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.cli import Cli
from tests.process.site import Site

SECRET = "What-0nly-the-nodes-of-this-cluster-know"
SETTINGS = f"cluster_secret: {SECRET}\nrate_limiting_enabled: false\n"
TAKES_THE_GROUND_AWAY = "^(deleteUser|revokeToken)"
"""Operations by which it would find its own user or token, and go on without. They get a token of their own."""
UNSAYABLE = "positive_data_acceptance,negative_data_rejection"
"""A schema cannot say all rules of keys, nor which cursors were given, nor that one bad item of many fails alone."""
_TIMEOUT_S = 900


def ask(site: Site, folder: Path, *options: str) -> None:
    """All checks but those; the report of schemathesis, with its seed, is the message of the failure."""
    token = site.local("token", "create", "--scopes", "all", "--expires-in", "1d").out.strip()
    headers = {"Authorization": f"Bearer {token}", "X-Cluster-Secret": SECRET, "X-Node-ID": "schemathesis"}
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{site.url}/openapi.json",
        *(word for name, value in headers.items() for word in ("-H", f"{name}: {value}")),
        *("--checks", "all", "--exclude-checks", UNSAYABLE),
        *("--continue-on-failure", "--warnings", "off", "--generation-database", "none", "--no-color"),
        *options,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    print(done.stdout[-20_000:])
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]


@pytest.mark.slow
@pytest.mark.timeout(2 * _TIMEOUT_S)
def test_no_answer_is_undocumented_and_none_is_a_failure(kvs: Cli) -> None:
    site = Site(kvs, SETTINGS)
    path = kvs.folder / "site.yaml"
    path.write_text(path.read_text().replace("clustering_enabled: false\n", ""))
    site.start()
    work = kvs.folder / "work"
    work.mkdir()
    ask(site, work, "--exclude-operation-id-regex", TAKES_THE_GROUND_AWAY, "--max-examples", "40")
    ask(site, work, "--include-operation-id-regex", TAKES_THE_GROUND_AWAY, "--max-examples", "10")
    assert "A handler failed" not in site.log
    assert "Traceback" not in site.log
    assert site.ask("GET", "/health").status == 200
    site.stop()
