"""The jit policy: what is compiled how, how often, and what is kept on disk.

What the disk has to do with it is tried on copies of the package, in processes of their own.
"""

from __future__ import annotations

import importlib
import os
import pickle
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import config, types
from numba.core.dispatcher import Dispatcher

import reftranscoder
from reftranscoder import kernels
from reftranscoder.kernels.engine.jit import routine
from reftranscoder.kernels.engine.kernel_arrays import as_kernel_array
from reftranscoder.kernels.engine.linked import Kernel
from reftranscoder.kernels.engine.threads_and_forks import ParallelKernel
from reftranscoder.kernels.fused_step import step_in_place
from reftranscoder.kernels.screen.cpu_target import PANELS

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(bool(config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT: nothing is compiled"),
]

PACKAGE = Path(reftranscoder.__file__).parent

#: Two kernels, of which one calls on another file for the addition of its lanes.
TWO_KERNELS = """
import numpy as np
from reftranscoder.kernels import mse_backward, mse_forward
target, reconstruction = np.zeros((2, 8)), np.arange(16.0).reshape(2, 8)
{between}
print(mse_forward(target, reconstruction), mse_backward(target, reconstruction).sum())
"""
RESULT = "77.5 15.0\n"  # 1240 / 16, and 2 * 120 / 16

COMPILING = "reftranscoder: compiling"


@pytest.fixture
def copy(tmp_path):
    """The folder that a copy of the package without any compiled code lies in."""
    ignored = shutil.ignore_patterns("__pycache__", "*.npz", "*.npy", "*.safetensors")
    shutil.copytree(PACKAGE, tmp_path / "copy" / "reftranscoder", ignore=ignored)
    return tmp_path / "copy"


def run(path, between="", **variables):
    """Run `TWO_KERNELS` with the package that lies in ``path``; return what it printed and said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "XDG"))}
    environment |= {"PYTHONPATH": str(path), "HOME": str(path.parent / "home"), **variables}
    command = [sys.executable, "-c", TWO_KERNELS.format(between=between)]
    done = subprocess.run(
        command, env=environment, cwd=path.parent, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def compiled_files(path):
    return sorted(path.rglob("*.nbc"))


def test_what_is_kept_is_used_while_it_is_whole_and_fresh(copy):
    result, said = run(copy)
    assert result == RESULT
    assert said.count(COMPILING) == 1 and said.count("\n") == 1
    files = compiled_files(copy)
    assert len(files) == 2
    assert {file.parent for file in files} == {copy / "reftranscoder/kernels/__pycache__"}

    assert run(copy) == (RESULT, "")

    for file, damage in zip(files, (b"", b"not a pickle")):
        file.write_bytes(damage)
    result, said = run(copy)
    assert result == RESULT and COMPILING in said

    # The callers are in mse.py, which does not change.
    callee = copy / "reftranscoder/kernels/engine/vector.py"
    text = callee.read_text(encoding="utf-8")
    assert text.count("builder.fadd(low, high)") == 2
    callee.write_text(text.replace("builder.fadd(low, high)", "builder.fsub(low, high)"))
    result, said = run(copy)
    assert result not in ("", RESULT) and COMPILING in said
    assert len(compiled_files(copy)) == 2 and not set(files) & set(compiled_files(copy))


def test_two_that_compile_at_once_both_end_well(copy):
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(run, [copy, copy]))
    assert [result for result, _ in both] == [RESULT, RESULT]
    assert all(said.count("\n") <= 1 for _, said in both)
    assert run(copy) == (RESULT, "")  # what they kept is whole


def test_a_folder_of_ones_own_choice(copy, tmp_path):
    assert run(copy, NUMBA_CACHE_DIR=str(tmp_path / "chosen"))[0] == RESULT
    assert len(compiled_files(tmp_path / "chosen")) == 2 and not compiled_files(copy)


def test_without_any_folder_it_compiles_and_warns_once(copy):
    # Files where folders would be: even root cannot write there.
    for folder in [copy.parent / "home", copy / "reftranscoder/kernels/__pycache__"]:
        folder.write_text("")
    result, said = run(copy)
    assert result == RESULT
    assert said.count("RuntimeWarning") == said.count(COMPILING) == 1
    assert "set NUMBA_CACHE_DIR" in said


def test_a_folder_that_goes_away_is_only_worth_a_warning(copy, tmp_path):
    chosen = tmp_path / "chosen"
    gone = f"import shutil; shutil.rmtree({str(chosen)!r}); open({str(chosen)!r}, 'w').close()"
    result, said = run(copy, gone, NUMBA_CACHE_DIR=str(chosen))
    assert result == RESULT
    assert said.count("RuntimeWarning") == said.count(COMPILING) == 1
    assert "could not be kept" in said and "set NUMBA_CACHE_DIR" in said


def test_from_a_zip_file_it_is_kept_with_the_user(copy):
    archive = copy.parent / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for source in copy.rglob("*.py"):
            file.write(source, source.relative_to(copy))
    result, said = run(archive)
    assert result == RESULT and said.count(COMPILING) == 1
    assert len(compiled_files(copy.parent / "home")) == 2
    assert run(archive) == (RESULT, "")


def dispatchers():
    """Everything compiled in kernels/, by where it stands."""
    found = {}
    for module in pkgutil.walk_packages(kernels.__path__, kernels.__name__ + "."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if getattr(value, "__module__", "") != module.name:
                continue
            if isinstance(value, ParallelKernel):
                found[f"{module.name}.{name}"] = value.parallel
                found[f"{module.name}.{name} serial"] = value.serial
            elif isinstance(value, Dispatcher):
                found[f"{module.name}.{name}"] = value
    return found


def test_one_policy_for_all():
    assert len(dispatchers()) > 10
    for name, dispatcher in dispatchers().items():
        options = dispatcher.targetoptions
        assert not options["fastmath"], name
        assert options["error_model"] == "numpy", name
        if "prange" in dispatcher.py_func.__code__.co_names:
            parallel = options["parallel"]  # a dictionary would not outlive a compilation
            if name.endswith("serial"):
                assert parallel is False, name
            else:
                assert parallel.prange and not (parallel.reduction or parallel.fusion), name
            assert options["nogil"], name


def test_a_kernel_is_pickled_by_its_name():
    module = importlib.import_module("reftranscoder.kernels.engine.sparse_loops")
    for kernel in vars(module).values():
        if isinstance(kernel, ParallelKernel):
            assert pickle.loads(pickle.dumps(kernel)) is kernel


def test_no_machine_code_is_made_of_a_routine():
    @routine
    def of_python(x):
        return x + 1

    with pytest.raises(KeyError, match="of_python is a routine, which only kernels can call"):
        of_python(1)

    @routine
    def linked(x):
        return x + 1

    @numba.njit(pipeline_class=Kernel)  # not kept for the next run, in which nothing would compile
    def called(x):
        return linked(x)

    assert called(1) == 2
    addresses = [
        compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        for dispatcher in (linked, called)
        for compiled in dispatcher.overloads.values()
    ]
    assert [address == 0 for address in addresses] == [True, False]


def test_what_numba_made_for_a_kernel_serves_the_functions_of_others():
    @numba.njit(pipeline_class=Kernel)
    def ours(n):
        return np.zeros(n, np.int16).size

    @numba.njit
    def theirs(n):
        return np.zeros(n, np.int16).size + 1

    assert (ours(3), theirs(3)) == (3, 4)


#: One kernel that calls another.
TWO_IN_ONE = """
from reftranscoder.kernels.engine.jit import serial_kernel
@serial_kernel
def inner(x):
    return x + 1
@serial_kernel
def outer(x):
    return 2 * inner(x)
print(outer(3), inner(4))
"""


def test_a_kernel_that_another_calls_may_be_kept(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_IN_ONE)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, script],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(PACKAGE.parent)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "8 5\n"
        assert [file.name.split(".")[1] for file in compiled_files(tmp_path)] == ["inner", "outer"]
        compiled_files(tmp_path)[1].unlink()


def in_every_form(array):
    """``array`` as callers may have it: as it is, read-only, in Fortran order, with gaps, askew."""
    read_only = array.copy()
    read_only.flags.writeable = False
    backwards = np.ascontiguousarray(array[::-1])[::-1]
    gaps = np.repeat(array, 2, axis=-1)[..., ::2]
    askew = np.frombuffer(b"." + array.tobytes(), np.uint8)[1:].view(array.dtype)
    return array, read_only, np.asfortranarray(array), backwards, gaps, askew.reshape(array.shape)


def test_what_enters_a_kernel_has_one_form(rng):
    array = rng.standard_normal((3, 5)).astype(np.float32)
    others = array.astype(array.dtype.newbyteorder()), array.astype(np.float64)
    for form in (*in_every_form(array), *others):
        view = as_kernel_array(form, np.float32)
        assert view.flags.c_contiguous and view.flags.aligned and not view.flags.writeable
        assert view.dtype == np.float32 and view.dtype.isnative
        assert np.array_equal(view, array)
    view = as_kernel_array(array, np.float32)
    assert np.shares_memory(view, array) and array.flags.writeable


def flat(arguments):
    """The types of arguments, and of what is in those that are tuples."""
    for argument in arguments:
        yield from flat(argument) if isinstance(argument, types.BaseTuple) else [argument]


def test_nothing_compiles_twice_for_one_dtype(rng):
    B, I, D, O = 3, 5, 7, 4
    shapes = [(B, I), (B, O), (D, I), (D,), (D, O), (O,), (O, I)]
    for dtype in np.float32, np.float64:
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        for forms, top_k in zip(zip(*map(in_every_form, arrays)), [2, np.int32(2)] * 3):
            x, target, W_enc, b_enc, W_dec, b_dec, W_skip = forms
            out = kernels.transcoder_forward(x, W_enc, b_enc, W_dec, b_dec, W_skip, top_k=top_k)
            kernels.transcoder_loss(target, out.reconstruction, out.hidden, 0.5)
            kernels.transcoder_backward(x, target, out, W_enc, W_dec, W_skip, l1_coeff=0.5)
        adam = 1, 1e-3, 0.9, 0.999, 1e-8
        kernels.adam_step(*(np.ones(3, dtype) for _ in range(4)), *adam)
        names = "W_enc", "b_enc", "W_dec", "b_dec", "W_skip"
        state = [{name: np.ones_like(a) for name, a in zip(names, arrays[2:])} for _ in range(3)]
        for x, target, unit in zip(*map(in_every_form, arrays[:2]), [True, np.bool_(False)] * 3):
            step_in_place(*state, x, target, *adam, l1_coeff=0.5, top_k=2, unit_norm_decoder=unit)
    for name, dispatcher in dispatchers().items():
        if "nogil" not in dispatcher.targetoptions:
            continue  # a routine: compiled into each kernel that calls it, and loaded with it
        dtypes = [
            tuple(
                getattr(argument, "dtype", argument)
                for argument in flat(signature)
                if hasattr(argument, "ndim") or isinstance(argument, types.Float)
            )
            for signature in dispatcher.signatures
        ]
        whole = {types.int8, types.uint8, types.int16}
        screens = any(whole & set(signature) for signature in dtypes)
        most = 2 * len(PANELS) if screens else 2  # other tests may have asked for other screens
        assert len(dtypes) == len(set(dtypes)) <= most, name
        assert not (name.endswith("serial") and dtypes), name  # compiled only where it is needed
