#include "stat/zr_stat.h"

static void wb_stat_add(zr_stat_page *page, int id, uint64_t by)
{
    zr_stat_add(page, (enum zr_stat_id)id, by);
}

static void wb_drop_add(zr_stat_page *page, int id)
{
    zr_drop_add(page, (enum zr_drop_id)id);
}

static void wb_hist_add(zr_stat_page *page, int id, uint64_t value)
{
    zr_hist_add(page, (enum zr_hist_id)id, value);
}

static uint64_t wb_stat(const zr_stat_page *page, int id)
{
    return atomic_load_explicit(&page->stat[id], memory_order_relaxed);
}

static uint64_t wb_drop(const zr_stat_page *page, int id)
{
    return atomic_load_explicit(&page->drop[id], memory_order_relaxed);
}

static uint64_t wb_hist(const zr_stat_page *page, int id, uint32_t bucket)
{
    return atomic_load_explicit(&page->hist[id][bucket], memory_order_relaxed);
}

static const zr_stat_info *wb_stat_info(int id)
{
    return &zr_stat_infos[id];
}

static const zr_drop_info *wb_drop_info(int id)
{
    return &zr_drop_infos[id];
}

static const zr_stat_info *wb_hist_info(int id)
{
    return &zr_hist_infos[id];
}
