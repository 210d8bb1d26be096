#include "forward/zr_cmd.h"

const zr_cmd_info zr_cmd_infos[ZR_CMD_COUNT] = {
#define X(op, a, b, c, d, x, y, addr, help) { #op, { #a, #b, #c, #d, #x, #y, #addr }, help },
    ZR_CMD_LIST(X)
#undef X
};

const zr_cmd_info zr_evt_infos[ZR_EVT_COUNT] = {
#define X(op, a, b, c, d, x, y, addr, help) { #op, { #a, #b, #c, #d, #x, #y, #addr }, help },
    ZR_EVT_LIST(X)
#undef X
};
