"""Every tier gives the same integers, has the instructions it is named for, and no CPU gets another's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite import binding, ir

from nnaq.errors import NnaqError
from nnaq.kernels.machine import tiers
from nnaq.kernels.machine.vectors import I8, I32, add_fours

HERE = Path(__file__).parent
# Of the vectors alone, for tiers whose products differ in nothing but their width.
ROOMS = ("test_multiply.py", "test_lanes.py", "test_conv_runs.py", "test_recurrent_passes.py")
AVX512 = "+avx2,+avx512f,+avx512vl,+avx512bw"
DOTS = {t.name: t.dot for t in tiers.TIERS if t.dot is not None and t.dot.function}


def run(*words: str, **environment: str) -> str:
    """What a Python program of this folder prints."""
    path = os.pathsep.join([str(HERE.parent.parent), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", [t.name for t in tiers.TIERS if t.dot is None and t != tiers.tier()])
def test_another_width_gives_the_same_integers(name):
    rooms = (str(HERE / room) for room in ROOMS)
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", *rooms, **{tiers.VARIABLE: name})


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("bytes_16_plain", "sums"),
        ("bytes_8_plain", "sums"),
        ("bytes_8_plain", "products"),
        ("bytes_8_plain", "convolutions"),
        ("bytes_8_plain", "lstm"),
    ],
)
def test_products_of_bytes_give_the_same_integers(name, check):
    run(str(HERE / "tier_program.py"), check, **{tiers.VARIABLE: name})


def code_of(*words: str, **environment: str) -> tuple[str, dict[str, set[str]]]:
    """The tier of a CPU, and the products that the code of its tiles is made of."""
    found = json.loads(run(str(HERE / "tile_code.py"), *words, **environment))
    products = re.compile(r"\b(vpdpbusd|vpdpwssd|vpmaddwd|sdot|smull)\b.*")
    return found["tier"], {
        kind: {m[1] for m in products.finditer(code)} for kind, code in found["code"].items()
    }


@pytest.mark.parametrize(
    ("cpu", "features", "tier"),
    [
        ("icelake-server", f"{AVX512},+avx512vnni", "bytes_16"),
        ("alderlake", "+avx2,+avxvnni", "bytes_8"),
        ("skylake-avx512", AVX512, "words_16"),
        ("haswell", "+avx2", "words_8"),
    ],
)
def test_a_cpu_gets_the_products_that_it_has(cpu, features, tier):
    found, code = code_of(NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES=features, NNAQ_TIER="")
    assert found == tier
    assert code.get("bytes") == ({"vpdpbusd"} if tier.startswith("bytes") else None)
    assert "vpdpbusd" not in code["words"]


def test_an_arm_gets_its_dot_product():
    assert code_of("arm", NNAQ_TIER="") == ("bytes_arm", {"bytes": {"sdot"}, "words": {"smull"}})


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ("", "words_8"),
        ("sse2 avx2", "words_8"),
        ("avx2 avx512f avx512bw avx512vl", "words_16"),
        ("avx2 avx512f avx512bw avx512vl avx512vnni avxvnni", "bytes_16"),
        ("avx2 avxvnni", "bytes_8"),
        ("neon", "words_8"),
        ("neon dotprod", "bytes_arm"),
    ],
)
def test_features_choose_the_tier(features, name):
    found = tiers.suited(features.split())
    assert found.name == name
    assert found.runs_on(features.split())


def test_a_tier_that_is_none_is_told(monkeypatch):
    monkeypatch.setenv(tiers.VARIABLE, "words_9")
    with pytest.raises(NnaqError, match=r"words_9: no such tier; there are bytes_16, .*words_16, words_8"):
        tiers.tier.__wrapped__()


def test_a_tier_without_its_instruction_is_refused(monkeypatch):
    monkeypatch.setattr(tiers, "features", lambda: frozenset(("avx2",)))
    monkeypatch.setenv(tiers.VARIABLE, "bytes_8")
    with pytest.raises(
        NnaqError, match=r"no such instruction .* there are words_16, words_8, bytes_16_plain"
    ):
        tiers.tier.__wrapped__()


def test_vpdpbusd_takes_its_unsigned_bytes_first():
    """LLVM makes the same instruction, operands in the same order, of what is written for it and of a sum of
    products of unsigned by signed bytes, where it knows the order itself."""
    lanes, total = ir.VectorType(I32, 16), ir.VectorType(I32, 64)
    given = ir.VectorType(I8, 64)
    module = ir.Module()
    module.triple = "x86_64-unknown-linux-gnu"
    ours = ir.Function(module, ir.FunctionType(lanes, [given, given, lanes]), "ours")
    builder = ir.IRBuilder(ours.append_basic_block())
    builder.ret(add_fours(builder, DOTS["bytes_16"], ours.args[2], ours.args[0], ours.args[1]))
    theirs = ir.Function(module, ir.FunctionType(I32, [given, given]), "theirs")
    builder = ir.IRBuilder(theirs.append_basic_block())
    reduce = ir.Function(module, ir.FunctionType(I32, [total]), "llvm.vector.reduce.add.v64i32")
    products = builder.mul(builder.zext(theirs.args[0], total), builder.sext(theirs.args[1], total))
    builder.ret(builder.call(reduce, [products]))
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(module.triple)
    machine = target.create_target_machine(cpu="icelake-server", opt=3)
    code = machine.emit_assembly(binding.parse_assembly(str(module)))
    operands = re.findall(r"vpdpbusd\s+%(zmm\d+), %(zmm\d+), %zmm\d+", code)
    assert operands == [("zmm1", "zmm0")] * 2
