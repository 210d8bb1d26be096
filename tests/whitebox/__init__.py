"""The C core seen from inside, for tests: `lib` has its functions, `ffi` its types, `memory` the room they ask for.

Importing this builds the module when any C input has changed; see build.py.
"""

import importlib.util
from typing import Any

from tests.whitebox.build import ensure

_spec = importlib.util.spec_from_file_location("_whitebox", ensure())
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

ffi: Any = _module.ffi
lib: Any = _module.lib


def memory(size: int) -> Any:
    """At least `size` zero bytes as a `void *`, aligned to a cache line, freed with the returned object."""
    return ffi.gc(lib.wb_memory(size), lib.wb_free, size)
