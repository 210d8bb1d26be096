#include "base/zr_err.h"

const char *zr_err_name(int rc)
{
    if (rc >= 0)
        return "ok";
    switch (rc) {
#define X(name, value, text)                                                                                           \
    case value:                                                                                                        \
        return #name;
        ZR_ERR_LIST(X)
#undef X
    default:
        return "unknown";
    }
}

const char *zr_err_text(int rc)
{
    if (rc >= 0)
        return "no error";
    switch (rc) {
#define X(name, value, text)                                                                                           \
    case value:                                                                                                        \
        return text;
        ZR_ERR_LIST(X)
#undef X
    default:
        return "not an error of this list";
    }
}
