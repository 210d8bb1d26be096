/* floors: stat, wire, gate */
typedef struct zr_gate_keys {
    uint8_t public[32], mesh[32], seed[32], former[32];
    zr_ns_t former_until;
} zr_gate_keys;

typedef struct zr_gate_answer {
    bool former, reply;
    uint8_t cookie[64];
    ...;
} zr_gate_answer;

typedef struct zr_gate zr_gate;

size_t zr_gate_bytes(void);
zr_gate *zr_gate_init(void *mem, const zr_gate_keys *keys);
void zr_gate_fini(zr_gate *gate);
void zr_gate_queued(zr_gate *gate, uint32_t messages);
void zr_gate_busy(zr_gate *gate, uint32_t thousandths);
int zr_gate_input(zr_gate *gate, const uint8_t *data, size_t len, const zr_addr *from, zr_ns_t now,
                  zr_gate_answer *answer);
bool zr_gate_loaded(const zr_gate *gate, zr_ns_t now);
uint64_t zr_gate_loads(const zr_gate *gate);
bool zr_gate_overlap(const zr_gate *gate, zr_ns_t now);
bool zr_gate_check(const zr_gate *gate, zr_ns_t now);
/* `shim/gate.c`: the word of the drop. */
const char *wb_gate_why(const zr_gate_answer *answer);
