"""How loops are compiled: plainly and once, since a first call waits for it.

Numba takes seconds to compile what NumPy says in a word, so that kernels are written in plain
loops and shifts. What only kernels call is compiled without a way in from Python or C.
"""

from numba import njit

inner = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
kernel = njit(cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True)
inlined = njit(inline="always")
# By LLVM, after Numba has typed it once: for the few lines of an innermost loop.
inlined_by_llvm = njit(error_model="numpy", forceinline=True)
