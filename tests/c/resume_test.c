#include "fwd_rig.h"

#include "zr_test.h"

/* K38. A pull that resumes: at what number it is served from, and whether that was ahead of the stream. */
ZR_TEST(a_pull_that_wants_to_resume_in_the_future_is_served_from_now_and_counted)
{
    static const struct {
        uint64_t from;
        uint32_t first;
        uint64_t ahead;
    } cases[] = {
        { 100, 100, 0 }, /* exactly what comes next */
        { 40, 100, 0 },  /* the cache is empty */
        { 101, 100, 1 }, { 5000, 100, 1 }, { (uint64_t)1 << 33, 100, 1 },
    };
    rig r;
    uint64_t first = 0, ahead = 0;

    rig_open(&r, 0, 64);
    rig_publish(&r, 100);
    DO(&r, .op = ZR_CMD_session_add, .a = 0, .b = 1, .c = 2, .d = 1, .y = 1420, .addr = rig_addr(9, 7000));
    for (uint32_t i = 0; i < ZR_LEN(cases); i++) {
        zr_cmd add = { .op = ZR_CMD_child_add, .a = i, .d = 50 + i, .y = cases[i].from };
        CHECK_EQ(rig_do(&r, add, &first), 0);
        CHECK_EQ(first, cases[i].first);
        ahead += cases[i].ahead;
        CHECK_EQ(rig_stat(&r, ZR_STAT_resume_ahead), ahead);
    }
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_child_add, .a = 20, .d = 77, .y = ((uint64_t)1 << 33) + 1);
    rig_balanced(&r);
    rig_close(&r);
}
