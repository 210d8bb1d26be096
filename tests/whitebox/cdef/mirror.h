/* floors: mem, ring, stat, time, coll, wire, kcp, forward */
typedef struct wb_mirror wb_mirror;
wb_mirror *wb_mirror_new(uint32_t slots, uint32_t number);
void wb_mirror_free(wb_mirror *w);
int wb_mirror_open(wb_mirror *w);
int wb_mirror_feed(wb_mirror *w);
int wb_mirror_close(wb_mirror *w);
int wb_mirror_rtp(wb_mirror *w, bool audio, uint16_t seq, bool key);
int wb_mirror_owner_turn(wb_mirror *w);
int wb_mirror_target_turn(wb_mirror *w, int budget, uint16_t *seqs, int max);
uint64_t wb_mirror_queue_drops(wb_mirror *w);
uint32_t wb_mirror_waiting(wb_mirror *w);
bool wb_mirror_sound(wb_mirror *w);
