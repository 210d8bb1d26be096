"""The map and a dict see the same operations and agree on every key, after each of them."""

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.whitebox import ffi, lib, memory

# Few keys for few cells: probe sequences run into each other and around the end all the time.
keys = st.one_of(st.integers(0, 15), st.sampled_from([2**32, 2**32 - 1, 2**63, 2**64 - 1]))
values = st.integers(0, lib.ZR_MAP_NONE - 1)


class MapAgainstDict(RuleBasedStateMachine):
    @initialize(most=st.integers(1, 12))
    def open(self, most: int) -> None:
        self.map: Any = ffi.new("zr_map *")
        self.cells = memory(lib.zr_map_bytes(most))
        self.most = most
        self.model: dict[int, int] = {}
        self.touched: set[int] = set()
        assert lib.zr_map_init(self.map, self.cells, most) == lib.ZR_OK

    @rule(key=keys, value=values)
    def put(self, key: int, value: int) -> None:
        rc = lib.zr_map_put(self.map, key, value)
        self.touched.add(key)
        if key in self.model:
            assert rc == lib.ZR_E_exists
        elif len(self.model) == self.most:
            assert rc == lib.ZR_E_full
        else:
            assert rc == lib.ZR_OK
            self.model[key] = value

    @rule(key=keys)
    def delete(self, key: int) -> None:
        assert lib.zr_map_del(self.map, key) == self.model.pop(key, lib.ZR_MAP_NONE)

    @invariant()
    def agree(self) -> None:
        for key in self.touched:
            assert lib.zr_map_get(self.map, key) == self.model.get(key, lib.ZR_MAP_NONE)
        assert self.map.count == len(self.model)
        assert lib.zr_map_check(self.map)


TestMap = MapAgainstDict.TestCase
