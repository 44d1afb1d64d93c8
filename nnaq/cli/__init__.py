"""The command line: parse, call, print. Every command imports what it needs when it runs.

Exit codes: 0 done; 1 a bug (traceback); 2 the input was wrong, said in one sentence; 3 `--strict`
found host islands or an accuracy or memory budget is broken.
"""

import atexit
import gc
import sys

import typer

from nnaq.cli.finetune import finetune
from nnaq.cli.listings import ops, passes, targets
from nnaq.cli.lowering import lower
from nnaq.cli.machine import bench, doctor, warm
from nnaq.cli.models import check, run, show
from nnaq.cli.questions import diff, numerics
from nnaq.cli.search import search
from nnaq.cli.simulate import compare, simulate
from nnaq.cli.train import train
from nnaq.cli.transcribe import evaluate, transcribe
from nnaq.errors import NnaqError

EPILOG = (
    "Exit codes: 0 done; 1 a bug; 2 your input, one sentence; "
    "3 --strict found host islands or a broken budget."
)
app = typer.Typer(
    name="nnaq",
    help="Quantise a model and emulate it, bit for bit, on a neural network accelerator.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS = (
    *(
        lower,
        search,
        train,
        finetune,
        transcribe,
        evaluate,
        run,
        simulate,
        show,
        check,
        diff,
        compare,
        numerics,
    ),
    *(bench, warm, doctor),
    *(ops, passes, targets),
)
for command in COMMANDS:
    app.command()(command)


NEW_OBJECTS = 10_000  # after so many, instead of 700, Python looks for garbage among them


def main() -> None:
    """Run the command line; a NnaqError becomes one line and exit code 2."""
    _collect_less()
    try:
        app(prog_name="nnaq")
    except NnaqError as error:
        print(f"nnaq: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _collect_less() -> None:
    """Let Python look for garbage less often, and not at all when it ends.

    Libraries make hundreds of thousands of objects while they are imported, and all of them stay: going
    through them again and again, and once more at the end, takes a tenth of the time of a short command.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
