/* floors: mem, ring, stat, time, coll, wire, kcp, forward */
typedef struct wb_fwd wb_fwd;
wb_fwd *wb_fwd_new(uint32_t batch_cap, uint32_t number);
void wb_fwd_free(wb_fwd *w);
int wb_fwd_join(wb_fwd *w, uint32_t sub, uint32_t tracks, bool split);
int wb_fwd_leave(wb_fwd *w, uint32_t sub);
int wb_fwd_close(wb_fwd *w);
int wb_fwd_rtp(wb_fwd *w, bool audio, uint16_t seq, bool key);
int wb_fwd_fan_out(wb_fwd *w);
int wb_fwd_output(wb_fwd *w, uint16_t *ports, uint16_t *seqs, int max, bool *more);
bool wb_fwd_sound(wb_fwd *w);
uint32_t wb_fwd_in_use(wb_fwd *w);
