#include "mem/zr_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "zr_test.h"

#define BYTES 12345u

ZR_TEST(two_mappings_of_a_region_show_the_same_bytes)
{
    void *one, *two;
    int fd = zr_shm_open("zrelay-test", BYTES);

    CHECK(fd >= 0);
    CHECK_EQ(zr_shm_map(fd, BYTES, &one), ZR_OK);
    CHECK_EQ(zr_shm_map(fd, BYTES, &two), ZR_OK);
    close(fd); /* mappings outlive it */
    CHECK(one != two);
    CHECK_EQ(((char *)two)[BYTES - 1], 0);
    ((char *)one)[BYTES - 1] = 'z';
    CHECK_EQ(((char *)two)[BYTES - 1], 'z');
    zr_shm_unmap(one, BYTES);
    zr_shm_unmap(two, BYTES);
    zr_shm_unmap(NULL, BYTES);
}

ZR_TEST(a_region_can_be_neither_resized_nor_unsealed_nor_inherited)
{
    int fd = zr_shm_open("zrelay-test", BYTES);

    CHECK(fd >= 0);
    CHECK(ftruncate(fd, BYTES - 1) != 0 && errno == EPERM);
    CHECK(ftruncate(fd, BYTES + 1) != 0 && errno == EPERM);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0 && errno == EPERM);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    close(fd);
}

ZR_TEST(a_memfd_lacking_any_of_the_seals_is_refused)
{
    static const int some[] = { 0, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_GROW | F_SEAL_SEAL };
    void *at = &at;

    for (size_t i = 0; i < ZR_LEN(some); i++) {
        int fd = memfd_create("zrelay-test", MFD_ALLOW_SEALING | MFD_CLOEXEC);
        CHECK(fd >= 0);
        CHECK(ftruncate(fd, BYTES) == 0);
        CHECK(fcntl(fd, F_ADD_SEALS, some[i]) == 0);
        CHECK_EQ(zr_shm_map(fd, BYTES, &at), ZR_E_version);
        CHECK(at == NULL);
        close(fd);
    }
}

ZR_TEST(a_region_of_another_size_is_refused)
{
    void *at;
    int fd = zr_shm_open("zrelay-test", BYTES);

    CHECK_EQ(zr_shm_map(fd, BYTES - 1, &at), ZR_E_version);
    CHECK_EQ(zr_shm_map(fd, BYTES + 1, &at), ZR_E_version);
    CHECK_EQ(zr_shm_map(fd, 0, &at), ZR_E_version);
    close(fd);
    CHECK_EQ(zr_shm_open("zrelay-test", 0), ZR_E_inval);
}

ZR_TEST(what_is_no_memfd_or_no_descriptor_is_refused)
{
    void *at;
    int ends[2];

    CHECK(pipe(ends) == 0);
    CHECK_EQ(zr_shm_map(ends[0], BYTES, &at), ZR_E_version);
    close(ends[0]);
    close(ends[1]);
    CHECK_EQ(zr_shm_map(-1, BYTES, &at), ZR_E_os);
    CHECK_EQ(errno, EBADF);
}
