/*
 * kcp_stock.h - the stock engine, out of a wheel's extension module: its published calls only, found by name.
 */
#ifndef KCP_STOCK_H
#define KCP_STOCK_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/zr_base.h"

typedef struct stock stock; /* a conversation; never looked into */
typedef int stock_output(const char *data, int len, stock *kcp, void *user);

static struct {
    stock *(*create)(uint32_t conv, void *user);
    void (*setoutput)(stock *kcp, stock_output *output);
    int (*nodelay)(stock *kcp, int nodelay, int interval, int resend, int nc);
    int (*wndsize)(stock *kcp, int snd, int rcv);
    int (*setmtu)(stock *kcp, int mtu);
    int (*input)(stock *kcp, const char *data, long len);
    int (*send)(stock *kcp, const char *data, int len);
    int (*recv)(stock *kcp, char *to, int size);
    void (*update)(stock *kcp, uint32_t ms);
    uint32_t (*check)(const stock *kcp, uint32_t ms);
    void (*flush)(stock *kcp);
    int (*waitsnd)(const stock *kcp);
    void (*release)(stock *kcp);
} ikcp;

static inline void *bench_memory(size_t bytes)
{
    void *mem = aligned_alloc(ZR_CACHELINE, zr_round_up(bytes, ZR_CACHELINE));
    ZR_CHECK(mem != NULL);
    return mem;
}

static inline void stock_symbol(void *module, const char *name, void *call)
{
    void *address = dlsym(module, name);

    if (address == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    memcpy(call, &address, sizeof address);
}

/* An extension module wants its interpreter; `python` is the shared library of it. Exits with 2 when it cannot. */
static inline void stock_load(const char *python, const char *module)
{
    void *handle = dlopen(python, RTLD_NOW | RTLD_GLOBAL) == NULL ? NULL : dlopen(module, RTLD_NOW);

    if (handle == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
#define CALL(name) stock_symbol(handle, "ikcp_" #name, &ikcp.name)
    CALL(create), CALL(setoutput), CALL(nodelay), CALL(wndsize), CALL(setmtu), CALL(input), CALL(send), CALL(recv);
    CALL(update), CALL(check), CALL(flush), CALL(waitsnd), CALL(release);
#undef CALL
}

/* Its fastest setting: nodelay 1, flushed every 10 ms, fast resend at 2, no congestion window. */
static inline stock *stock_turbo(uint32_t conv, uint32_t window, uint32_t mtu, stock_output *output, void *user)
{
    stock *kcp = ikcp.create(conv, user);

    ZR_CHECK(kcp != NULL && ikcp.setmtu(kcp, (int)mtu) == 0);
    ikcp.setoutput(kcp, output);
    ikcp.nodelay(kcp, 1, 10, 2, 1);
    ikcp.wndsize(kcp, (int)window, (int)window);
    return kcp;
}

#endif
