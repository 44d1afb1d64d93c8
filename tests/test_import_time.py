"""`nnaq --help` answers at once: the heavy libraries wait until a command needs them."""

import subprocess
import sys

HEAVY = ["torch", "numba", "onnx", "onnx_ir", "onnxscript", "pydantic", "matplotlib", "scipy", "networkx"]
PROGRAM = f"""
import sys
from nnaq.cli import main
sys.argv = ["nnaq", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", *sorted(set({HEAVY!r}) & set(sys.modules)))
"""


def loaded_by(*arguments: str) -> list[str]:
    """The heavy libraries that a command has imported when it is done."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    mark, *found = done.stdout.splitlines()[-1].split()
    assert mark == "LOADED"
    return found


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by("--help") == []


def test_help_of_a_command_loads_nothing_heavy() -> None:
    # typer itself takes pydantic to read the options of a command
    assert set(loaded_by("lower", "--help")) <= {"pydantic"}


def test_the_library_itself_loads_nothing_heavy() -> None:
    program = f"import sys, nnaq; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_list_of_targets_needs_no_torch() -> None:
    assert "torch" not in loaded_by("targets")


def test_reading_onnx_runs_no_computer_algebra() -> None:
    program = "import sys, nnaq.frontends.onnx; print('onnx_ir' in sys.modules, 'sympy.core' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_at_its_end_a_command_looks_for_no_garbage() -> None:
    # what is registered first is called last
    program = "import atexit, gc; atexit.register(lambda: print('FROZEN', gc.get_freeze_count() > 1000))"
    command = [sys.executable, "-c", program + PROGRAM, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "FROZEN True"
