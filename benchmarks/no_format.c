/*
 * no_format.c - counts the texts that a program makes with the printf family and strftime; linked with no_alloc.c into
 * what is preloaded (LD_PRELOAD), glibc only.
 *
 * With ZR_COUNTS=FOLDER each process keeps both counts in FOLDER/PID, two uint64_t: allocations, texts. Whoever reads
 * that file while the process runs knows what it has done so far.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#undef snprintf
#undef vsnprintf

#define EXPORT   __attribute__((visibility("default")))
#define TEXT(at) __attribute__((format(printf, at, at + 1)))

extern uint64_t *zr_libc_calls;

int __vsnprintf_chk(char *to, size_t room, int flag, size_t known, const char *format, va_list values);
int __snprintf_chk(char *to, size_t room, int flag, size_t known, const char *format, ...);
int __vfprintf_chk(FILE *to, int flag, const char *format, va_list values);
int __fprintf_chk(FILE *to, int flag, const char *format, ...);

static int (*to_text)(char *, size_t, const char *, va_list);
static int (*to_file)(FILE *, const char *, va_list);
static size_t (*time_to_text)(char *, size_t, const char *, const struct tm *);

static void decimal(char *to, unsigned long value)
{
    char digits[24];
    int count = 0;

    do
        digits[count++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    while (count > 0)
        *to++ = digits[--count];
    *to = '\0';
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("ZR_COUNTS");
    char path[4096];

    to_text = (int (*)(char *, size_t, const char *, va_list))dlsym(RTLD_NEXT, "vsnprintf");
    to_file = (int (*)(FILE *, const char *, va_list))dlsym(RTLD_NEXT, "vfprintf");
    time_to_text = (size_t(*)(char *, size_t, const char *, const struct tm *))dlsym(RTLD_NEXT, "strftime");
    if (folder == NULL || strlen(folder) > sizeof path - 32)
        return;
    strcpy(path, folder);
    strcat(path, "/");
    decimal(path + strlen(path), (unsigned long)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 2 * sizeof(uint64_t)) != 0)
        abort();
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        abort();
    close(fd);
    zr_libc_calls = page;
}

static void count(void)
{
    __atomic_fetch_add(&zr_libc_calls[1], 1, __ATOMIC_RELAXED);
}

EXPORT int vsnprintf(char *to, size_t room, const char *format, va_list values)
{
    count();
    return to_text(to, room, format, values);
}

EXPORT TEXT(3) int snprintf(char *to, size_t room, const char *format, ...)
{
    va_list values;

    va_start(values, format);
    int length = vsnprintf(to, room, format, values);
    va_end(values);
    return length;
}

EXPORT int __vsnprintf_chk(char *to, size_t room, int flag, size_t known, const char *format, va_list values)
{
    (void)flag, (void)known;
    return vsnprintf(to, room, format, values);
}

EXPORT int __snprintf_chk(char *to, size_t room, int flag, size_t known, const char *format, ...)
{
    va_list values;

    (void)flag, (void)known;
    va_start(values, format);
    int length = vsnprintf(to, room, format, values);
    va_end(values);
    return length;
}

EXPORT int vfprintf(FILE *to, const char *format, va_list values)
{
    count();
    return to_file(to, format, values);
}

EXPORT TEXT(2) int fprintf(FILE *to, const char *format, ...)
{
    va_list values;

    va_start(values, format);
    int length = vfprintf(to, format, values);
    va_end(values);
    return length;
}

EXPORT int __vfprintf_chk(FILE *to, int flag, const char *format, va_list values)
{
    (void)flag;
    return vfprintf(to, format, values);
}

EXPORT int __fprintf_chk(FILE *to, int flag, const char *format, ...)
{
    va_list values;

    (void)flag;
    va_start(values, format);
    int length = vfprintf(to, format, values);
    va_end(values);
    return length;
}

EXPORT size_t strftime(char *to, size_t room, const char *format, const struct tm *when)
{
    count();
    return time_to_text(to, room, format, when);
}
