/* floors: stat, wire */
typedef struct zr_env {
    uint8_t type, lane;
    uint16_t epoch;
    uint32_t receiver;
    uint64_t counter;
} zr_env;

typedef struct zr_media {
    uint8_t flags, track, hops, cls, spatial, temporal;
    uint32_t number, hop_us, age_us;
} zr_media;

typedef struct zr_rtp {
    uint8_t payload_type;
    bool marker;
    uint16_t seq;
    uint32_t timestamp, ssrc;
    uint16_t payload_off, payload_len;
} zr_rtp;

#define ZR_DROP_short ...
#define ZR_DROP_type ...
#define ZR_DROP_version ...
#define ZR_DROP_rtp_short ...
#define ZR_DROP_rtp_version ...
#define ZR_DROP_rtp_csrc ...
#define ZR_DROP_rtp_ext ...
#define ZR_DROP_rtp_pad ...
#define ZR_CODEC_h264 ...
#define ZR_CODEC_h265 ...
#define ZR_CODEC_vp8 ...
#define ZR_CODEC_vp9 ...
#define ZR_CODEC_av1 ...

/* enum pointers are int pointers here; shim/wire.c. */
int wb_env_classify(const uint8_t *data, size_t len, int *type, int *drop);
int wb_rtp_parse(zr_rtp *rtp, const uint8_t *data, size_t len, int *drop);
uint8_t wb_codec_flags(int codec, const uint8_t *payload, size_t len);

void zr_env_parse(zr_env *env, const uint8_t *data);
void zr_env_put(uint8_t *to, const zr_env *env);
int zr_media_parse(zr_media *media, const uint8_t *data, size_t len);
void zr_media_put(uint8_t *to, const zr_media *media);
int zr_rtcp_check(const uint8_t *data, size_t len);
