/* floors: mem, ring, stat, time, coll, wire, kcp, forward */
typedef struct wb_shed wb_shed;
wb_shed *wb_shed_new(uint32_t hold_pkts, uint32_t hold_all);
void wb_shed_free(wb_shed *w);
int wb_shed_rtp(wb_shed *w, bool audio, uint16_t seq, uint32_t timestamp, int kind);
int wb_shed_turn(wb_shed *w, int most, uint16_t *seqs, bool *audio, int max);
void wb_shed_pass(wb_shed *w, uint32_t us);
void wb_shed_load(wb_shed *w, uint32_t busy);
bool wb_shed_sound(wb_shed *w);
uint32_t wb_shed_held(wb_shed *w);
