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

int main(int argc, char **argv)
{
    int passed = 0, failed = 0;

    for (zr_test *test = first; test != NULL; test = test->next) {
        if (argc > 1 && strstr(test->name, argv[1]) == NULL && strstr(test->file, argv[1]) == NULL)
            continue;
        if (passes(test)) {
            passed++;
        } else {
            fprintf(stderr, "FAILED %s\n", test->name);
            failed++;
        }
    }
    printf("C tests: %d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
