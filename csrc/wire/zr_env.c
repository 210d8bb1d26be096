#include "wire/zr_env.h"

#include "base/zr_bytes.h"
#include "base/zr_err.h"

int zr_env_classify(const uint8_t *data, size_t len, enum zr_env_type *type, enum zr_drop_id *drop)
{
    if (len < ZR_ENV_HEAD) {
        *drop = ZR_DROP_short;
        return ZR_E_malformed;
    }
    switch (data[0]) {
    case ZR_ENV_DATA:
        if (len < ZR_ENV_HEAD + ZR_ENV_TAG) {
            *drop = ZR_DROP_short;
            return ZR_E_malformed;
        }
        *type = ZR_ENV_DATA;
        return ZR_OK;
    case ZR_ENV_HELLO:
    case ZR_ENV_ANSWER:
    case ZR_ENV_COOKIE:
        *type = (enum zr_env_type)data[0];
        return ZR_OK;
    case 0x0C: /* kept for version 2 */
    case 0x0D:
    case 0x0E:
    case 0x0F:
        *drop = ZR_DROP_version;
        return ZR_E_malformed;
    default:
        *drop = ZR_DROP_type;
        return ZR_E_malformed;
    }
}

void zr_env_parse(zr_env *env, const uint8_t *data)
{
    env->type = data[0];
    env->lane = data[1];
    env->epoch = zr_get16(data + 2);
    env->receiver = zr_get32(data + 4);
    env->counter = zr_get64(data + 8);
}

void zr_env_put(uint8_t *to, const zr_env *env)
{
    to[0] = env->type;
    to[1] = env->lane;
    zr_put16(to + 2, env->epoch);
    zr_put32(to + 4, env->receiver);
    zr_put64(to + 8, env->counter);
}
