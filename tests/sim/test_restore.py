"""Backups in a cluster that goes on: whatever is restored, of whichever node and however old, no deleted key returns,
nothing that was acknowledged elsewhere is lost, and all become equal."""

from itertools import chain

import pytest

from kvs.cluster.floor import Stored, encode
from kvs.server import restoring
from kvs.storage.backup import Header
from kvs.storage.state import FLOOR_ROW, Progress
from tests.sim.runs import Failure, run
from tests.sim.setup import draw

FAULTS = ("restore", "restore", "kill", "restart", "stop", "partition", "heal", "wipe")
PATIENCE_MS = 30_000
"""Longer than the network is ever cut here: see the docs about restoring several nodes at once."""
KNOWN_SEED = 35
"""Shows that keys return when a restored node takes its backup for new."""


@pytest.mark.parametrize("seed", range(12))
def test_a_cluster_that_forgets_what_it_deleted(seed: int) -> None:
    """Tombstones go within seconds; backups from before that stay."""
    result = run(seed, setup=draw(seed)._replace(faults=FAULTS, fill_patience_ms=PATIENCE_MS, retention_ms=30_000))
    assert result.acknowledged


@pytest.mark.parametrize("seed", range(12))
def test_a_cluster_that_remembers(seed: int) -> None:
    run(seed, setup=draw(seed)._replace(faults=FAULTS, fill_patience_ms=PATIENCE_MS, retention_ms=864_000_000))


def test_a_restore_that_forgets_how_old_its_backup_is_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    state = restoring._state

    def forgetful(header: Header, progress: Progress, now_ms: int) -> dict[bytes, bytes | None]:
        return {**state(header, progress, now_ms), FLOOR_ROW: encode(Stored())}

    monkeypatch.setattr(restoring, "_state", forgetful)
    assert any(fails(seed) for seed in chain([KNOWN_SEED], range(40)))


def fails(seed: int) -> bool:
    try:
        run(seed, setup=draw(seed)._replace(faults=FAULTS, fill_patience_ms=PATIENCE_MS, retention_ms=30_000))
    except Failure:
        return True
    return False
