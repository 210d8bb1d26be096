#include "base/zr_err.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/zr_base.h"
#include "zr_test.h"

static const int all[] = {
#define X(name, value, text) value,
    ZR_ERR_LIST(X)
#undef X
};

ZR_TEST(counts_and_zero_are_no_error)
{
    CHECK(strcmp(zr_err_name(ZR_OK), "ok") == 0);
    CHECK(strcmp(zr_err_name(17), "ok") == 0);
    CHECK(strcmp(zr_err_text(17), "no error") == 0);
}

ZR_TEST(errors_are_negative_and_never_the_value_of_a_python_exception)
{
    for (size_t i = 0; i < ZR_LEN(all); i++)
        CHECK(all[i] < -1);
}

ZR_TEST(each_error_has_a_value_and_a_text_of_its_own)
{
    for (size_t i = 0; i < ZR_LEN(all); i++)
        for (size_t j = 0; j < i; j++) {
            CHECK(all[i] != all[j]);
            CHECK(strcmp(zr_err_name(all[i]), zr_err_name(all[j])) != 0);
            CHECK(strcmp(zr_err_text(all[i]), zr_err_text(all[j])) != 0);
        }
    CHECK(strcmp(zr_err_name(ZR_E_full), "full") == 0);
    CHECK(strstr(zr_err_text(ZR_E_os), "errno") != NULL);
}

ZR_TEST(a_value_outside_the_list_is_named_unknown)
{
    CHECK(strcmp(zr_err_name(-1), "unknown") == 0);
    CHECK(strcmp(zr_err_name(-9999), "unknown") == 0);
    CHECK(strstr(zr_err_text(-9999), "not an error") != NULL);
}

ZR_TEST(a_failed_check_says_where_and_aborts)
{
    int ends[2], status;
    char said[256] = { 0 };

    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        zr_check_failed("some.c", 42, "sky == blue");
    }
    close(ends[1]);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(read(ends[0], said, sizeof said - 1) > 0);
    close(ends[0]);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(strncmp(said, "some.c:42: check failed: sky == blue\n", 36) == 0);
}
