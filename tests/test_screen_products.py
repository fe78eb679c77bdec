"""Every kind of panels is multiplied by the instruction that it is for, read for each processor."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from reftranscoder.kernels.screen import emission, products
from reftranscoder.kernels.screen.cpu_target import TABLE, Tile

# Instruction and registers, for the cheapest processor that has them.
X86 = "x86_64-unknown-linux-gnu"
READ = {
    "vpdpbusd.512": (X86, "cascadelake", "", r"vpdpbusd\s+%zmm"),
    "vpdpbusd.256": (X86, "haswell", "+avxvnni", r"\{vex\}\s+vpdpbusd\s+%ymm"),
    "sdot": ("aarch64-unknown-linux-gnu", "generic", "+dotprod", r"sdot\s+v0.4s, v\d.16b, v\d.16b"),
    "pmaddw.d.512": (X86, "skylake-avx512", "", r"vpmaddwd\s+%zmm"),
    "pmadd.wd": (X86, "haswell", "", r"vpmaddwd\s+%ymm"),
    "fma": (X86, "haswell", "", r"vfmadd\d+ps\s+%ymm"),
}
KINDS = [kind for kind in TABLE if kind.product != "tdpbssd"]  # its registers are no values


def multiply_add(kind, lanes):
    """LLVM's text of a function of a line of weights, a number of an input, and a sum."""
    module = ir.Module()
    e = emission.Emission.__new__(emission.Emission)
    e.kind, e.whole = kind, kind.weights != np.float32
    e.floats, e.ints = (ir.VectorType(t, lanes) for t in (emission.F32, emission.I32))
    vector = e.ints if e.whole else e.floats
    function = ir.Function(module, ir.FunctionType(vector, [vector] * 3), "multiply_add")
    e.builder = ir.IRBuilder(function.append_basic_block())
    total, line, number = function.args
    e.builder.ret(products.emit_multiply_add(e, line, number, total))
    return str(module)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.product)
def test_a_kind_is_the_instruction_that_it_is_for(kind, monkeypatch):
    (wanted,) = [READ[name] for name in READ if f".{name}." in f".{kind.product}."]
    triple, processor, features, instruction = wanted
    lanes = kind.lanes or 8
    tile = Tile(1, lanes, lanes)
    monkeypatch.setattr(products, "TILE", tile)
    monkeypatch.setattr(emission, "TILE", tile)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(multiply_add(kind, lanes))
    module.triple = triple
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=processor, features=features, opt=3)
    assembly = machine.emit_assembly(module)
    assert re.search(instruction, assembly), assembly
