/* cffi passes an enum by value or not at all: pointers to enums become pointers to int. */
#include "wire/zr_env.h"
#include "wire/zr_rtp.h"

static int wb_env_classify(const uint8_t *data, size_t len, int *type, int *drop)
{
    enum zr_env_type of = 0;
    enum zr_drop_id why = 0;
    int rc = zr_env_classify(data, len, &of, &why);
    *type = (int)of;
    *drop = (int)why;
    return rc;
}

static int wb_rtp_parse(zr_rtp *rtp, const uint8_t *data, size_t len, int *drop)
{
    enum zr_drop_id why = 0;
    int rc = zr_rtp_parse(rtp, data, len, &why);
    *drop = (int)why;
    return rc;
}

static uint8_t wb_codec_flags(int codec, const uint8_t *payload, size_t len)
{
    return zr_codec_flags((enum zr_codec)codec, payload, len);
}
