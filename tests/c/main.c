#include "zr_test.h"

#include <stdbool.h>

static zr_test *first;
static jmp_buf back;

void zr_test_register(zr_test *test)
{
    zr_test **at = &first;
    while (*at != NULL && strcmp((*at)->file, test->file) <= 0)
        at = &(*at)->next;
    test->next = *at;
    *at = test;
}

_Noreturn void zr_test_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "  %s:%d: %s\n", file, line, what);
    longjmp(back, 1);
}

/* Apart from main, so that longjmp finds no local of main's in a register. */
static bool passes(const zr_test *test)
{
    if (setjmp(back) != 0)
        return false;
    test->run();
    return true;
}

/* ZR_TEST_LEAVE_OUT: beginnings of file names, each with a space behind it. */
static bool left_out(const zr_test *test)
{
    const char *at = getenv("ZR_TEST_LEAVE_OUT"), *slash = strrchr(test->file, '/'), *end;
    const char *name = slash == NULL ? test->file : slash + 1;

    for (; at != NULL && (end = strchr(at, ' ')) != NULL; at = end + 1)
        if (strncmp(name, at, (size_t)(end - at)) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0, out = 0;

    for (zr_test *test = first; test != NULL; test = test->next) {
        if (argc > 1 && strstr(test->name, argv[1]) == NULL && strstr(test->file, argv[1]) == NULL)
            continue;
        if (left_out(test)) {
            out++;
            continue;
        }
        if (passes(test)) {
            passed++;
        } else {
            fprintf(stderr, "FAILED %s\n", test->name);
            failed++;
        }
    }
    if (out > 0)
        printf("left out: %d (ZR_TEST_LEAVE_OUT)\n", out);
    printf("C tests: %d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
