/* The reason as a word: cffi has no name for the anonymous list it comes from. */
static const char *wb_gate_why(const zr_gate_answer *answer)
{
    return zr_drop_infos[answer->why].name;
}
