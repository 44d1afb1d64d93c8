"""Prints the tier in use and the machine code of its tiles, as JSON. It runs none of it.

python tile_code.py            for the CPU that Numba compiles for (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES)
python tile_code.py arm        for an ARM with the dot product, by LLVM alone, whatever this CPU is
"""

import json
import sys

import numba
from llvmlite import binding, ir
from numba.core.registry import cpu_target

ARM = "aarch64-unknown-linux-gnu", "neoverse-n1", "+neon,+dotprod"


def arm_machine():
    """LLVM's code generator for an ARM, which Numba's is made to look like."""
    cpu_target.target_context.codegen().magic_tuple = lambda: ARM
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(ARM[0]).create_target_machine(cpu=ARM[1], features=ARM[2], opt=3)


def by_llvm(machine, row, entry):
    """The code of the tiles alone."""
    from nnaq.kernels.machine.products import all_tiles

    module = ir.Module()
    module.triple = ARM[0]
    function = all_tiles(module, ir.IntType(row), ir.IntType(entry))
    function.linkage = "external"
    return machine.emit_assembly(binding.parse_assembly(str(module)))


def by_numba(row, entry):
    """The code of a function that calls them."""
    from nnaq.kernels.machine.products import tiles

    @numba.njit
    def some(x, panels, sums):
        tiles(x, 0, 8, 15, panels, 0, 64, 2, 3, sums, 64)

    some.compile(tuple(kind[::1] for kind in (row, entry, numba.int32)))
    return next(iter(some.inspect_asm().values()))


def main():
    if sys.argv[1:] == ["arm"]:
        machine = arm_machine()
        code = {"bytes": by_llvm(machine, 8, 8), "words": by_llvm(machine, 16, 8)}
    else:
        from nnaq.kernels.machine.tiers import tier

        code = {"words": by_numba(numba.int16, numba.int8)}
        if tier().dot is not None:
            code["bytes"] = by_numba(numba.uint8, numba.int8)
    from nnaq.kernels.machine.tiers import tier

    print(json.dumps({"tier": tier().name, "code": code}))


main()
