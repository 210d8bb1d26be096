#include "wire/zr_media.h"

#include "base/zr_bytes.h"
#include "base/zr_err.h"

int zr_media_parse(zr_media *media, const uint8_t *data, size_t len)
{
    if (len < ZR_MEDIA_HEAD)
        return ZR_E_malformed;
    media->flags = data[0];
    media->track = data[1];
    media->hops = data[2] >> 4;
    media->cls = ZR_MIN((uint8_t)(data[2] & 15u), (uint8_t)ZR_MEDIA_CLASS_MAX);
    media->spatial = data[3] >> 4;
    media->temporal = data[3] & 15u;
    media->number = zr_get32(data + 4);
    media->hop_us = zr_get32(data + 8);
    media->age_us = zr_get32(data + 12);
    return ZR_OK;
}

void zr_media_put(uint8_t to[ZR_MEDIA_HEAD], const zr_media *media)
{
    to[0] = media->flags;
    to[1] = media->track;
    to[2] = (uint8_t)((media->hops & 15u) << 4 | (media->cls & 15u));
    to[3] = (uint8_t)((media->spatial & 15u) << 4 | (media->temporal & 15u));
    zr_put32(to + 4, media->number);
    zr_put32(to + 8, media->hop_us);
    zr_put32(to + 12, media->age_us);
}
