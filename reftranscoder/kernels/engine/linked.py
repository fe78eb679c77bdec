"""Nothing but a kernel is ever called: what it is made of is linked into it, as it was written.

By itself Numba optimises every function that it compiles and makes machine code of it; and where a
function calls others, once more with these linked into it.  A loop that runs in parallel goes that
way four times, and a routine once for each that it is called through.  Here only the whole kernel
does, with the same instructions in the end, in half of the seconds for which a new user waits.
"""

from __future__ import annotations

import contextlib
import gc

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class Kernel(Compiler):
    """Numba's compiler, for a kernel: a ``pipeline_class`` of ``jit``."""

    def _compile_core(self):
        codegen = self.state.targetctx.codegen()
        self.state.library = JITCodeLibrary(codegen, self.state.func_id.func_qualname)
        self.state.library.enable_object_caching()
        collects = gc.isenabled()
        gc.disable()  # which takes a tenth of the time, and finds little
        try:
            with _made_as(_Linked, codegen):
                return super()._compile_core()
        finally:
            if collects:
                gc.enable()


class Routine(Compiler):
    """For a routine, which can be called by kernels and routines only."""

    def define_pipelines(self):
        builder = DefaultPassBuilder.define_nopython_pipeline(self.state)
        builder.passes = [
            (_Lowering if one is NativeLowering else one, said) for one, said in builder.passes
        ]
        return [builder]


class _Linked(JITCodeLibrary):
    """A function for LLVM to link, which has no address."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    @property
    def codegen(self):
        return _NoCode

    @classmethod
    def _unserialize(cls, codegen, state):
        """A kernel that another calls, as it was kept: this one has an address."""
        with _made_as(JITCodeLibrary, codegen):
            return JITCodeLibrary._unserialize(codegen, state)


@contextlib.contextmanager
def _made_as(library, codegen):
    """Inside, what is compiled is a ``library``.

    No other thread compiles meanwhile: Numba has a lock for that.
    """
    usual, codegen._library_class = codegen._library_class, library
    try:
        yield
    finally:
        codegen._library_class = usual


class _NoCode:
    """What Numba asks of the code that it has made of a function."""

    @staticmethod
    def set_env(name, env):
        """Tell nothing to code that is not there."""


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """`NativeLowering` of a routine."""

    _name = "routine_lowering"

    def run_pass(self, state):
        flags, context = state.flags, state.targetctx
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        state.library = _Linked(context.codegen(), state.func_id.func_qualname)
        super().run_pass(state)
        name = _refusal(state.func_id.func_name)
        context.insert_user_function(name, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=name)
        return True


def _refusal(name):
    """What Numba knows a routine by, and what Python calls: a method of C, and no other's.

    It raises a KeyError that says why: what stands in braces would have to be given.
    """
    return f"{{{name} is a routine, which only kernels can call}}".format
