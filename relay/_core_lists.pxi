# Part of _core.pyx: the core's lists as tuples of rows, and its errors as exceptions.


cdef str text(const char *s):
    return s.decode("ascii")


cdef tuple info_rows(const zr_stat_info *infos, int count):
    return tuple([(text(infos[i].name), text(infos[i].kind), text(infos[i].unit), text(infos[i].help))
                  for i in range(count)])


cdef tuple record_rows(const zr_cmd_info *infos, int count):
    return tuple([(text(infos[i].op), tuple([text(infos[i].fields[f]) for f in range(7)]), text(infos[i].help))
                  for i in range(count)])


ERRORS = tuple([(text(zr_err_infos[i].name), zr_err_infos[i].value, text(zr_err_infos[i].text))
                for i in range(ZR_ERR_COUNT)])
STATS = info_rows(zr_stat_infos, ZR_STAT_COUNT)
DROPS = tuple([(text(zr_drop_infos[i].name), text(zr_drop_infos[i].ledger), text(zr_drop_infos[i].word),
                text(zr_drop_infos[i].help)) for i in range(ZR_DROP_COUNT)])
HISTS = info_rows(zr_hist_infos, ZR_HIST_COUNT)
COMMANDS = record_rows(zr_cmd_infos, ZR_CMD_COUNT)
EVENTS = record_rows(zr_evt_infos, ZR_EVT_COUNT)
CODECS = tuple([(text(zr_codec_infos[i].word), text(zr_codec_infos[i].rtpmap)) for i in range(ZR_CODEC_COUNT)])
FDPASS = (ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS)
FDPASS_BECOME, FDPASS_UP = ZR_FDPASS_BECOME, ZR_FDPASS_UP
cdef dict DROP_IDS = {row[0]: i for i, row in enumerate(DROPS)}
cdef dict HIST_IDS = {row[0]: i for i, row in enumerate(HISTS)}

bind(ERRORS)


cdef int check(int rc) except -1:
    if rc >= 0:
        return rc
    if rc == ZR_E_os:
        PyErr_SetFromErrno(OSError)
        return -1
    raise error_for(rc)
