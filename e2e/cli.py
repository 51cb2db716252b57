"""The command `nodeport-e2e`."""

import signal
import sys
import traceback
from importlib import import_module
from types import FrameType

import click
from click.shell_completion import get_completion_class

from e2e.errors import CannotRunError, StopError, StoppedError, UsageError
from e2e.screen import say

PROGRAM = "nodeport-e2e"
# Where each command is: what one of them needs is read when it is asked for, and not by the others.
COMMANDS = {
    "run": "e2e.commands.run:run",
    "shard": "e2e.commands.shard:shard",
    "merge": "e2e.commands.merge:merge",
    "plan": "e2e.before.commands:plan",
    "explain": "e2e.before.commands:explain",
    "doctor": "e2e.before.commands:doctor",
    "prepare": "e2e.upgrade.commands:prepare",
    "watch": "e2e.upgrade.watch_command:watch",
    "verify": "e2e.upgrade.commands:verify",
    "compare": "e2e.upgrade.commands:compare",
    "disturb": "e2e.upgrade.disturb.command:disturb",
    "scenario": "e2e.upgrade.scenario:scenario",
    "faults": "e2e.faults.command:faults",
    "soak": "e2e.commands.soak:soak",
    "history": "e2e.commands.history:history",
    "node-image": "e2e.commands.care:make_node_image",
    "clean": "e2e.commands.care:clean",
    "stop-engine": "e2e.commands.care:stop_the_engine",
    "document": "e2e.commands.documents:document",
    "schemas": "e2e.commands.documents:print_schemas",
}


class Group(click.Group):
    """A command whose parts are read when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


def _say_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(import_module("e2e.report.outputs").version())
        ctx.exit()


@click.group(
    cls=Group,
    context_settings={"auto_envvar_prefix": "E2E", "help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version,
    help="Say which harness this is, and end.",
)  # fmt: skip
def group() -> None:
    """Proves with real requests from outside that a cluster keeps the NodePort contract.

    Exit codes: 0 all held, 1 a clause did not, 2 could not run, 3 refused for safety, 4 usage.
    """


@group.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what completes commands, options and clauses in a shell, to be read by it."""
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(
        complete(group, {}, PROGRAM, f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE").source()
    )


def main() -> None:
    """Run the command; a known situation ends with its message and its exit code."""
    try:
        signal.signal(signal.SIGTERM, _as_interrupt)
        # A script that starts this in the background lets it ignore Ctrl-C, and pytest with it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = group.main(standalone_mode=False)
    except StopError as error:
        say(str(error))
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = UsageError.exit_code
    except (click.Abort, KeyboardInterrupt):
        say(str(StoppedError()))
        code = StoppedError.exit_code
    except Exception:  # noqa: BLE001  # whatever it is, it is no verdict, as Python's own 1 would be
        traceback.print_exc()
        code = CannotRunError.exit_code
    sys.exit(code or 0)


def _as_interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
