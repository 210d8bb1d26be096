#include "base/zr_base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void zr_check_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
    abort();
}
