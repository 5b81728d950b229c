"""The command line: `kvs CONFIG` or `kvs COMMAND …`, and how errors become one line and an exit code.

Imports at the top stay few and light: `kvs --help` and completion answer at once. Commands import what they need.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import click

from kvs import __version__
from kvs.daemon.commands_audit import audit
from kvs.daemon.commands_backup import backup
from kvs.daemon.commands_bench import bench_command
from kvs.daemon.commands_cert import cert
from kvs.daemon.commands_cluster import cluster
from kvs.daemon.commands_config import config
from kvs.daemon.commands_context import context
from kvs.daemon.commands_data import get_command, rm_command, set_command
from kvs.daemon.commands_debug import completion, debug
from kvs.daemon.commands_edit import edit_command
from kvs.daemon.commands_export import export_command
from kvs.daemon.commands_group import group
from kvs.daemon.commands_history import history_command, undo_command
from kvs.daemon.commands_import import import_command
from kvs.daemon.commands_list import ls_command, tree_command
from kvs.daemon.commands_meta import meta_command
from kvs.daemon.commands_node import ping_command, whoami_command
from kvs.daemon.commands_process import restart, start, stop
from kvs.daemon.commands_status import logs, status
from kvs.daemon.commands_token import token
from kvs.daemon.commands_user import user
from kvs.daemon.commands_watch import watch_command
from kvs.daemon.failure import FAILED, INTERRUPTED, OK, USAGE, Failed, reason
from kvs.errors import ConfigError, KvsError, StartError

_CONFIG_SUFFIXES = (".yaml", ".yml")


@click.command("CONFIG", hidden=True)
@click.argument("config", type=click.Path(path_type=Path))
def run_config(config: Path) -> int:
    """Run the node of CONFIG in the foreground, with its log on standard output.

    A CONFIG that does not exist is made with default settings. Ctrl-C or SIGTERM ends the node cleanly, SIGHUP
    reloads CONFIG.
    """
    from kvs.daemon.run import run

    return run(config)


class _Commands(click.Group):
    """A first word that is no command is a configuration to run."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word.startswith("-") or self.get_command(ctx, word) is not None:
            return super().resolve_command(ctx, args)
        if word.endswith(_CONFIG_SUFFIXES) or Path(word).exists():
            return "CONFIG", run_config, args
        hint = ""
        if Path(f"{word}.yaml").exists():
            hint = f"; to run that configuration: kvs {word}.yaml"
        elif close := difflib.get_close_matches(word, self.list_commands(ctx), n=1, cutoff=0.5):
            hint = f"; did you mean {close[0]}?"
        raise click.UsageError(f"{word!r} is neither a command nor a configuration file{hint}", ctx)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "CONFIG.yaml")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...")


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or a bad configuration, 3 not found or not running, "
    "4 refused, 5 a condition failed, 6 no node answers, 7 too many requests.",
)
@click.version_option(__version__, message="kvs %(version)s")
def cli() -> None:
    """KVS, an eventually consistent key-value database.

    `kvs CONFIG.yaml` runs a node in the foreground; the file is made with default settings if it does not exist.
    `kvs start CONFIG` runs it as a daemon.
    """


for _command in (
    get_command,
    set_command,
    rm_command,
    ls_command,
    tree_command,
    watch_command,
    history_command,
    undo_command,
    edit_command,
    meta_command,
    import_command,
    export_command,
    bench_command,
    context,
    whoami_command,
    ping_command,
    start,
    stop,
    restart,
    status,
    logs,
    config,
    cert,
    cluster,
    backup,
    token,
    user,
    group,
    audit,
    debug,
    completion,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Without `arguments`: those of the process."""
    os.umask(0o077)  # whatever is made from here on is for this user only
    try:
        code = cli.main(arguments, prog_name="kvs", standalone_mode=False)
        return code if isinstance(code, int) else OK
    except click.UsageError as error:
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except ConfigError as error:
        return _complain(error.lines(), USAGE)
    except Failed as error:
        return _complain([str(error)], error.exit_code)
    except (StartError, KvsError, click.ClickException) as error:
        return _complain([str(error)], FAILED)
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        return _complain([reason(error)], FAILED)


def _complain(lines: Sequence[str], code: int) -> int:
    for line in lines:
        click.echo(f"kvs: {line}".encode(errors="backslashreplace"), err=True)
    return code
