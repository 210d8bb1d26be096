/*
 * zr_err.h - one list of errors. From it come the enum, zr_err_name, zr_err_text, the Python exceptions and the docs.
 *
 * Functions return ZR_OK or a count (>= 0), or one of these (< 0). -1 is never used: in the binding it means that a
 * Python exception is set.
 */
#ifndef ZR_ERR_H
#define ZR_ERR_H

/* name, value, text.  Append only: the value is the ABI. */
#define ZR_ERR_LIST(X)                                                                                                 \
    X(full, -2, "no room: the queue, window or batch is full")                                                         \
    X(again, -3, "nothing there now")                                                                                  \
    X(nomem, -4, "a pool sized at start is exhausted")                                                                 \
    X(inval, -5, "an argument is out of its range")                                                                    \
    X(exists, -6, "the slot or key is taken")                                                                          \
    X(missing, -7, "no such slot or key")                                                                              \
    X(malformed, -8, "the bytes break the format")                                                                     \
    X(closed, -9, "the object is closed")                                                                              \
    X(os, -10, "the operating system refused; errno says why")                                                         \
    X(version, -11, "a shared page has another magic, version or size")                                                \
    X(dropped, -12, "the packet was dropped and counted")                                                              \
    X(oversize, -13, "longer than the limit")

enum zr_err {
    ZR_OK = 0,
#define X(name, value, text) ZR_E_##name = (value),
    ZR_ERR_LIST(X)
#undef X
    };

/* "full" for ZR_E_full; "ok" for >= 0; "unknown" for a value not in the list. */
const char *zr_err_name(int rc);
const char *zr_err_text(int rc);

#endif
