"""kvs backup."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from kvs.daemon.failure import NOT_FOUND, OK, Failed
from kvs.daemon.progress import progress
from kvs.daemon.session import Session, in_open_session, time_text

if TYPE_CHECKING:
    from kvs.storage.backup import Summary

_POLL_S = 0.2


@click.group()
def backup() -> None:
    """Make, list, check and restore backups."""


@backup.command("create")
@in_open_session
def create_command(session: Session) -> int:
    """Have the node make a backup now, in its own folder of backups, and wait for it."""
    session.client.call("POST", "/api/backup?timeout=0")
    with progress("Backing up", None, unit="entries") as show:
        while (status := session.client.call("GET", "/api/backup/status"))["backups_running"]:
            show(status["rows_written"] or 0)
            time.sleep(_POLL_S)
    if not status["last_backup_success"]:
        raise Failed(str(status["last_backup_error"]))
    name = Path(status["last_backup_path"]).name
    made = next((one for one in session.client.call("GET", "/api/backup")["backups"] if one["name"] == name), None)
    if made is None:
        raise Failed(f"{name} was made and is gone again", NOT_FOUND)
    if session.as_json:
        click.echo(json.dumps(made))
    else:
        click.echo(f"{_entries(made)}, {made['size_bytes']} bytes", err=True)
        click.echo(status["last_backup_path"])
    return OK


@backup.command("list")
@click.argument("config", required=False)
@in_open_session
def list_command(session: Session, config: str | None) -> int:
    """List the backups in the folder of CONFIG, or of a node that runs."""
    if config is None:
        rows = session.client.call("GET", "/api/backup")["backups"]
    else:
        from kvs.daemon.local import load_config
        from kvs.storage.backup_files import found

        folder = load_config(config).backup_path
        try:
            rows = [one.document() for one in found(folder)]
        except OSError as error:
            raise Failed(f"cannot read {folder}: {error.strerror}") from None
    return session.print_rows(rows, ("NAME", "NODE", "ENTRIES", "BYTES"), _cells)


@backup.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify_command(file: Path, as_json: bool) -> int:
    """Read a whole backup and check every part of it."""
    with _opened(file) as backup_file:
        about = _verified(backup_file)
    header, counts = about.header, about.counts
    if as_json:
        click.echo(json.dumps(about.document()))
        return OK
    lines = (
        ("made", f"{time_text(header.created_at)} by {header.node_id}, KVS {header.version}"),
        ("entries", _entries(counts._asdict())),
        ("size", f"{about.size_bytes} bytes, {counts.content_bytes} unpacked"),
        *((("left out", f"{counts.left_out} entries that were damaged before"),) if counts.left_out else ()),
    )
    click.echo("\n".join(f"{name + ':':10}{value}" for name, value in lines))
    click.echo(f"{file} is whole", err=True)
    return OK


@backup.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("config", required=False)
@click.option(
    "--forgotten",
    is_flag=True,
    help="Into a running node: take also what it does not have and may have forgotten the deletion of.",
)
@in_open_session
def restore_command(session: Session, file: Path, config: str | None, forgotten: bool) -> int:
    """Restore FILE into the empty data directory of CONFIG, or merge it into a node that runs.

    With CONFIG the node must not run; it starts as a new instance with the records of the backup. Without, the node
    of --url or --local takes what is newer in the backup than what it has, and its cluster gets it from there.
    """
    if config is None:
        return _merge(session, file, forgotten=forgotten)
    if forgotten:
        raise click.UsageError("--forgotten is for running nodes; an empty data directory has forgotten nothing")
    return _restore(session, file, config)


def _restore(session: Session, file: Path, config_word: str) -> int:
    from kvs.daemon.local import local_node
    from kvs.server.restoring import check_target, restore
    from kvs.storage.backup import summary

    config, is_running = local_node(config_word)
    if is_running:
        raise Failed(f"the node of {config.path} runs; stop it first, or restore into it with --local {config_word}")
    now_ms = time.time_ns() // 1_000_000
    with _opened(file) as backup_file:
        check_target(config.data_dir)
        about = summary(backup_file)
        logged = config.tamper_log_actions if config.tamper_logging_enabled else ()
        with progress("Restoring", about.size_bytes) as show:
            restore(backup_file, config.data_dir, now_ms, config.max_clock_drift, show, logged=logged)
    if about.header.had_peers and config.clustering_enabled and not config.other_seeds:
        click.echo(
            "kvs: the backup is of a node in a cluster, and this configuration names no seed_nodes: until another node "
            "finds it, it does not know what was deleted or revoked since",
            err=True,
        )
    return _done(session, {"restored": str(file), "into": str(config.data_dir), **about.counts._asdict()})


def _merge(session: Session, file: Path, *, forgotten: bool) -> int:
    from kvs.storage.backup import ROWS_TYPE, encode_rows, portions
    from kvs.storage.keyspace import REVISIONS

    counts: Counter[str] = Counter()
    with _opened(file) as backup_file:
        about = _verified(backup_file)
        header, switch = about.header, str(forgotten).lower()
        path = f"/api/backup/restore?as_of={header.as_of}&created_at={header.created_at}&forgotten={switch}"
        with progress("Restoring", about.size_bytes) as show:
            for section, rows, _ in portions(backup_file, show):
                if section == REVISIONS:
                    break  # a history is each node's own
                body = encode_rows(rows)
                counts.update(session.client.send(path, body, ROWS_TYPE))
    if counts["forgotten"]:
        click.echo(
            f"kvs: {counts['forgotten']} entries were left out: they are not on the node, and so old that it may have "
            "forgotten their deletion; --forgotten takes them",
            err=True,
        )
    _done(session, {"merged": str(file), **counts})
    if counts["refused"]:
        raise Failed(f"{counts['refused']} entries were refused; the log of the node names them")
    return OK


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """The backup; what is wrong with it, or with what is done with it, as one line."""
    from kvs.errors import BackupDamaged, RestoreRefused, StoreError
    from kvs.storage.backup_files import opened

    try:
        with opened(file) as backup_file:
            yield backup_file
    except BackupDamaged as error:
        raise Failed(f"{file} is not a whole backup: {error}") from None
    except (RestoreRefused, StoreError) as error:
        raise Failed(str(error)) from None
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else file  # a descriptor's number says nothing
        raise Failed(f"{where}: {error.strerror}") from None


def _verified(file: BinaryIO) -> "Summary":
    from kvs.storage.backup import summary, verify

    with progress("Verifying", summary(file).size_bytes) as show:
        return verify(file, show)


def _done(session: Session, document: Mapping[str, object]) -> int:
    if session.as_json:
        click.echo(json.dumps(document))
    else:
        click.echo(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in document.items()), err=True)
    return OK


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if not row["readable"]:
        return row["name"], "-", "damaged", str(row["size_bytes"])
    return row["name"], row["node_id"], _entries(row), str(row["size_bytes"])


def _entries(counts: Mapping[str, Any]) -> str:
    return f"{counts['records']} records, {counts['documents']} documents, {counts['revisions']} revisions"
