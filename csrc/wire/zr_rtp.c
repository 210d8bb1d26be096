#include "wire/zr_rtp.h"

#include "base/zr_bytes.h"
#include "base/zr_err.h"

static int refuse(enum zr_drop_id *drop, enum zr_drop_id why)
{
    *drop = why;
    return ZR_E_malformed;
}

int zr_rtp_parse(zr_rtp *rtp, const uint8_t *data, size_t len, enum zr_drop_id *drop)
{
    ZR_CHECK(len <= UINT16_MAX);
    if (len < ZR_RTP_HEAD)
        return refuse(drop, ZR_DROP_rtp_short);
    if (data[0] >> 6 != 2)
        return refuse(drop, ZR_DROP_rtp_version);

    size_t off = ZR_RTP_HEAD + 4u * (data[0] & 15u);
    if (off > len)
        return refuse(drop, ZR_DROP_rtp_csrc);
    if (data[0] & 0x10) {
        if (len - off < 4)
            return refuse(drop, ZR_DROP_rtp_ext);
        size_t words = zr_get16be(data + off + 2);
        off += 4;
        if (len - off < 4 * words)
            return refuse(drop, ZR_DROP_rtp_ext);
        off += 4 * words;
    }
    size_t padding = 0;
    if (data[0] & 0x20) {
        /* The count includes itself, so zero is as wrong as one that reaches into the header. */
        padding = data[len - 1];
        if (padding == 0 || padding > len - off)
            return refuse(drop, ZR_DROP_rtp_pad);
    }

    rtp->marker = data[1] >> 7;
    rtp->payload_type = data[1] & 127u;
    rtp->seq = zr_get16be(data + 2);
    rtp->timestamp = zr_get32be(data + 4);
    rtp->ssrc = zr_get32be(data + 8);
    rtp->payload_off = (uint16_t)off;
    rtp->payload_len = (uint16_t)(len - off - padding);
    return ZR_OK;
}

bool zr_rtp_is_rtcp(const uint8_t *data, size_t len)
{
    return len >= 2 && data[1] >= 192 && data[1] <= 223;
}
