# cython: language_level=3
"""The binding: the core's lists and the owners of its objects, nothing else. _core.pyi says what each call means.

Times are int nanoseconds of the monotonic clock, addresses struct zr_addr as 20 bytes, records struct zr_cmd as 64.
_core.pxd has the core's declarations. One extension, in parts by noun; each uses those before it:

    _core_lists         errors, counters, commands, events, codecs as tuples; check()
    _core_values        addresses, keys and datagrams in and out; the clock, a socket
    _core_memory        Region: a shared page or our own memory, for as long as its owner lives
    _core_counters      Counters, StatPage, watch_lives
    _core_channel       Channel, Inbox
    _core_forwarder     Forwarder, and the settings that a worker shares with it
    _core_controllane   ControlLane
    _core_worker        Worker: its journal, its place, its sizes, its life
    _core_simlink       SimLink
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.string cimport memcpy, memset

from os import urandom

from relay.errors import bind, error_for

include "_core_lists.pxi"
include "_core_values.pxi"
include "_core_memory.pxi"
include "_core_counters.pxi"
include "_core_channel.pxi"
include "_core_forwarder.pxi"
include "_core_controllane.pxi"
include "_core_worker.pxi"
include "_core_simlink.pxi"
