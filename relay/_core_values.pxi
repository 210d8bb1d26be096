# Part of _core.pyx: what crosses the border by value: addresses, a session's keys, datagrams; clock and sockets.


cdef zr_addr addr_of(bytes data) except *:
    cdef zr_addr addr
    if PyBytes_GET_SIZE(data) != ZR_ADDR_BYTES:
        raise ValueError(f"an address is {ZR_ADDR_BYTES} bytes, not {len(data)}")
    memcpy(&addr, PyBytes_AS_STRING(data), ZR_ADDR_BYTES)
    return addr


cdef int keys_of(tuple row, zr_keys *keys) except -1:
    """relay.actions.SessionKeys.row(); None is plaintext. The caller wipes `keys`."""
    memset(keys, 0, sizeof(keys[0]))
    if row is None:
        return 0
    cdef bytes send, recv
    cipher, at_once, send, recv, age_ms = row
    if len(send) != ZR_SECRET_BYTES or len(recv) != ZR_SECRET_BYTES:
        raise ValueError(f"a direction secret is {ZR_SECRET_BYTES} bytes")
    keys.cipher, keys.initiator, keys.age_ms = cipher, at_once, age_ms
    memcpy(keys.send, PyBytes_AS_STRING(send), ZR_SECRET_BYTES)
    memcpy(keys.recv, PyBytes_AS_STRING(recv), ZR_SECRET_BYTES)
    return 0


def cipher_default():
    return zr_cipher_default()


cdef bytes addr_bytes(const zr_addr *addr):
    return PyBytes_FromStringAndSize(<const char *>addr, ZR_ADDR_BYTES)


cdef inline const uint8_t *data_of(bytes data):
    return <const uint8_t *>PyBytes_AS_STRING(data)


def clock_now():
    return zr_clock_now()


def udp_open(bytes address not None, *, uint32_t rcvbuf=0, uint32_t sndbuf=0, bint gro=False, bint fragment=True):
    cdef zr_addr addr = addr_of(address)
    return check(zr_udp_open(&addr, rcvbuf, sndbuf,
                             (ZR_UDP_GRO if gro else 0) | (0 if fragment else ZR_UDP_DONT_FRAGMENT)))


cdef list batch_rows(const zr_batch *batch):
    return [(batch.tx[i].sock, addr_bytes(&batch.tx[i].to),
             PyBytes_FromStringAndSize(<const char *>batch.tx[i].data, batch.tx[i].len)) for i in range(batch.count)]
