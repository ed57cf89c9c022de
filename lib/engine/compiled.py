"""How loops are compiled: plainly and once, since a first call waits for it.

Numba takes seconds to compile what NumPy says in a word, so that kernels are written in plain
loops and shifts. What only kernels call is compiled without a way in from Python or C.
"""

from numba import njit

OPTIONS = {"error_model": "numpy"}  # 1 / 0 is infinite, as in NumPy

inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)
kernel = njit(cache=True, nogil=True, no_cfunc_wrapper=True, **OPTIONS)
inlined = njit(inline="always")
# By LLVM, after Numba has typed it once: for the few lines of an innermost loop.
inlined_by_llvm = njit(error_model="numpy", forceinline=True)
# The same where a product and a sum may be rounded as one.
fused_by_llvm = njit(error_model="numpy", forceinline=True, fastmath={"contract"})
