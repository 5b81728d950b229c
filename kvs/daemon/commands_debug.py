"""kvs debug, kvs completion."""

from pathlib import Path

import click

from kvs.daemon.failure import OK

_NO_SPACE = "    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace\n"


@click.group()
def debug() -> None:
    """Tools for tests and experiments."""


@debug.command("make-conflict")
@click.argument("dir1", type=click.Path(path_type=Path))
@click.argument("dir2", type=click.Path(path_type=Path))
def make_conflict_command(dir1: Path, dir2: Path) -> int:
    """Write two data directories that hold different values for test/conflict/data at one timestamp."""
    from kvs.server.conflict import make_conflict

    make_conflict(dir1, dir2)
    return OK


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the completion script of SHELL.

    \b
    bash: kvs completion bash > ~/.local/share/bash-completion/completions/kvs
    zsh:  kvs completion zsh > "${fpath[1]}/_kvs"
    fish: kvs completion fish > ~/.config/fish/completions/kvs.fish
    """
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    kinds = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
    script = kinds[shell](ctx.find_root().command, {}, "kvs", "_KVS_COMPLETE")
    text = script.source_template % script.source_vars()
    if shell == "bash":  # behind "app/" follows more of the key, so no space
        text = text.replace("    return 0\n", _NO_SPACE + "    return 0\n")
    click.echo(text)
    return OK
