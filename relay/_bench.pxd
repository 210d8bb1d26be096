# What bench link needs of the core beyond relay/_core.pxd. None raises and none needs the GIL.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from relay._core cimport cbool, zr_addr, zr_batch, zr_lane_conf, zr_ns_t, zr_session_conf, zr_stat_page

cdef extern from "mem/zr_pool.h" nogil:
    ctypedef struct zr_pool:
        uint32_t in_use
    ctypedef struct zr_pkt:
        uint8_t *buf
        uint16_t off, len
    ctypedef struct zr_slice:
        zr_pkt *pkt
        uint16_t off, len
    size_t zr_pool_bytes(uint32_t count)
    int zr_pool_init(zr_pool *pool, void *mem, uint32_t count)
    zr_pkt *zr_pool_take(zr_pool *pool)
    zr_pkt *zr_pool_copy(zr_pool *pool, const void *data, size_t size)
    void zr_pkt_drop(zr_pkt *pkt)
    const uint8_t *zr_pkt_data(const zr_pkt *pkt)
    const uint8_t *zr_slice_data(const zr_slice *slice)

cdef extern from "stat/zr_stat.h" nogil:
    enum:
        ZR_STAT_rx_link
    void zr_stat_add(zr_stat_page *page, int stat, uint64_t by)

cdef extern from "wire/zr_media.h" nogil:
    enum:
        ZR_MEDIA_HEAD, ZR_MEDIA_FRAME_START, ZR_MEDIA_FRAME_END
    ctypedef struct zr_media:
        uint8_t flags
        uint32_t number, hop_us
    int zr_media_parse(zr_media *media, const uint8_t *data, size_t size)
    void zr_media_put(uint8_t *to, const zr_media *media)

cdef extern from "kcp/zr_kcp_priv.h" nogil:
    ctypedef struct zr_seg:
        pass
    int zr_seg_next(zr_seg *seg, const uint8_t *data, size_t size, size_t *pos)
    ctypedef struct zr_pack:
        pass
    void zr_pack_begin(zr_pack *pack, zr_batch *batch, const zr_addr *to, uint16_t sock, uint16_t mtu, uint8_t head,
                       uint8_t tail, cbool runs)
    void zr_pack_finish(zr_pack *pack)
    ctypedef struct zr_kcp_conf:
        uint32_t mtu, snd_wnd, rcv_wnd
    ctypedef struct zr_kcp_blocks:
        uint32_t in_use
    ctypedef struct zr_kcp_counts:
        uint64_t segs_sent, retrans_timeout, retrans_fast, segs_received, duplicates, acks_sent, window_drops
    ctypedef struct zr_kcp:
        pass
    zr_kcp_conf zr_kcp_conf_compat(uint32_t conv)
    size_t zr_kcp_blocks_bytes(uint32_t count)
    int zr_kcp_blocks_init(zr_kcp_blocks *blocks, void *mem, uint32_t count)
    int zr_kcp_init(zr_kcp *kcp, const zr_kcp_conf *conf, zr_kcp_blocks *blocks, zr_pool *pool, zr_ns_t now)
    void zr_kcp_fini(zr_kcp *kcp)
    int zr_kcp_send(zr_kcp *kcp, const uint8_t *head, size_t head_len, const zr_slice *body, zr_ns_t now)
    int zr_kcp_judge(const zr_kcp *kcp, const zr_seg *seg, int *drop)
    void zr_kcp_input_seg(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, zr_ns_t now)
    void zr_kcp_input_end(zr_kcp *kcp, zr_ns_t now)
    int zr_kcp_recv(zr_kcp *kcp, zr_slice *views, int most)
    zr_ns_t zr_kcp_deadline(const zr_kcp *kcp)
    void zr_kcp_on_deadline(zr_kcp *kcp, zr_ns_t now)
    int zr_kcp_output(zr_kcp *kcp, zr_pack *pack, zr_ns_t now)
    void zr_kcp_flush(zr_kcp *kcp)
    const zr_kcp_counts *zr_kcp_counted(const zr_kcp *kcp)

cdef extern from "forward/zr_pull.h" nogil:
    ctypedef struct zr_hop:
        pass
    uint32_t zr_hop_delay_us(zr_hop *hop, uint32_t hop_us, uint32_t srtt_us, zr_ns_t now)

cdef extern from "forward/zr_lane.h" nogil:
    ctypedef struct zr_lane:
        pass
    enum zr_conv_kind:
        ZR_CONV_MEDIA
    ctypedef struct zr_lane_msg:
        uint32_t srtt_us
        zr_slice views[2]
        int view_count
    size_t zr_lane_bytes(const zr_lane_conf *conf)
    zr_lane *zr_lane_init(void *mem, const zr_lane_conf *conf, zr_pool *pool, zr_stat_page *page, zr_ns_t now)
    void zr_lane_fini(zr_lane *lane)
    int zr_lane_session_add(zr_lane *lane, uint32_t slot, const zr_session_conf *conf, zr_ns_t now)
    int zr_lane_conv_open(zr_lane *lane, uint32_t session, uint32_t conv, uint8_t peer_lane, zr_conv_kind kind,
                          uint32_t user, zr_ns_t now)
    int zr_lane_input(zr_lane *lane, zr_pkt *pkt, const zr_addr *sender, zr_ns_t now)
    int zr_lane_recv(zr_lane *lane, zr_lane_msg *msg)
    int zr_lane_send(zr_lane *lane, uint32_t conv, const uint8_t *head, size_t head_len, const zr_slice *body,
                     zr_ns_t now)
    zr_ns_t zr_lane_deadline(const zr_lane *lane)
    void zr_lane_on_deadline(zr_lane *lane, zr_ns_t now)
    int zr_lane_output(zr_lane *lane, zr_batch *batch, zr_ns_t now)
    cbool zr_lane_check(const zr_lane *lane)

cdef extern from "worker/zr_lists.h" nogil:
    void *zr_memory_open(size_t size)
