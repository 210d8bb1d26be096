/* floors: stat, wire */
typedef struct zr_seal_kit {
    ...;
} zr_seal_kit;
typedef struct zr_seal {
    uint8_t cipher;
    ...;
} zr_seal;

#define ZR_SEAL_IV ...

int zr_seal_kit_open(zr_seal_kit *kit);
void zr_seal_kit_close(zr_seal_kit *kit);
void zr_seal_init(zr_seal *seal);
void zr_seal_fini(zr_seal *seal);
void zr_seal_wipe(zr_seal *seal);
void zr_seal_put(zr_seal *seal, uint64_t counter, uint8_t *datagram, size_t len);
bool zr_seal_open(zr_seal *seal, uint64_t counter, uint8_t *datagram, size_t len);
void zr_hkdf_expand(const uint8_t *secret, const uint8_t *info, size_t info_len, uint8_t *out, size_t out_len);

/* `shim/seal.c`: enums as ints, and a key and IV as a published vector gives them. */
int wb_seal_prepare(zr_seal *seal, const zr_seal_kit *kit, int cipher, bool to_seal);
void wb_seal_key(zr_seal *seal, int cipher, const uint8_t *secret, uint8_t from, uint8_t to, uint16_t epoch);
int wb_seal_key_raw(zr_seal *seal, int cipher, const uint8_t *key, const uint8_t *iv);
