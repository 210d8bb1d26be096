/* floors: time */
typedef struct zr_timer {
    zr_ns_t deadline;
    uint16_t kind;
    uint32_t ref;
    ...;
} zr_timer;

typedef struct zr_wheel {
    uint64_t tick;
    uint32_t count;
    ...;
} zr_wheel;

#define ZR_WHEEL_TICK_SHIFT 19

void zr_wheel_init(zr_wheel *wheel, zr_ns_t now);
void zr_timer_init(zr_timer *timer, uint16_t kind, uint32_t ref);
void zr_timer_arm(zr_wheel *wheel, zr_timer *timer, zr_ns_t deadline);
void zr_timer_cancel(zr_wheel *wheel, zr_timer *timer);
bool zr_timer_armed(const zr_timer *timer);
void zr_wheel_advance(zr_wheel *wheel, zr_ns_t now);
zr_timer *zr_wheel_expired(zr_wheel *wheel);
zr_ns_t zr_wheel_deadline(const zr_wheel *wheel);
bool zr_wheel_check(const zr_wheel *wheel);
