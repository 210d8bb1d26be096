#include "forward/zr_ingress.h"

void zr_ingress_init(zr_ingress *ingress, uint32_t slot)
{
    *ingress = (zr_ingress){ .slot = slot };
    zr_list_init(&ingress->locking);
}

int zr_ingress_bind(zr_ingress *ingress, zr_stream *stream, bool learn)
{
    if ((ingress->stream != NULL && ingress->stream != stream) ||
        (stream->ingress != ZR_INGRESS_NONE && stream->ingress != ingress->slot))
        return ZR_E_exists;
    ingress->stream = stream;
    ingress->learn = learn;
    stream->ingress = ingress->slot;
    zr_ingress_forget(ingress);
    return ZR_OK;
}

void zr_ingress_unbind(zr_ingress *ingress)
{
    if (ingress->stream == NULL)
        return;
    zr_ingress_forget(ingress);
    ingress->stream->ingress = ZR_INGRESS_NONE;
    ingress->stream = NULL;
}

void zr_ingress_forget(zr_ingress *ingress)
{
    ingress->source_count = 0;
    zr_list_remove(&ingress->locking);
    for (unsigned i = 0; i < ZR_TRACKS_MAX; i++) {
        zr_track *track = &ingress->stream->tracks[i];
        track->heard = track->locked = false;
        track->rtcp.family = 0;
    }
}

int zr_ingress_add_source(zr_ingress *ingress, const zr_addr *source)
{
    if (ingress->stream == NULL)
        return ZR_E_missing;
    for (unsigned i = 0; i < ingress->source_count; i++)
        if (zr_addr_eq(&ingress->sources[i], source))
            return ZR_OK;
    if (ingress->source_count == ZR_INGRESS_SOURCES)
        return ZR_E_full;
    ingress->sources[ingress->source_count++] = *source;
    return ZR_OK;
}

bool zr_ingress_allows(const zr_ingress *ingress, const zr_addr *from)
{
    if (ingress->learn)
        return true;
    for (unsigned i = 0; i < ingress->source_count; i++)
        if (zr_addr_eq(&ingress->sources[i], from))
            return true;
    return false;
}

int zr_ingress_hear(const zr_ingress *ingress, zr_track *track, const zr_addr *from, uint32_t ssrc, zr_ns_t now)
{
    int lock = ZR_LOCK_HELD;

    if (ingress->learn) {
        if (zr_ingress_release(track, now))
            lock |= ZR_LOCK_LOST;
        if (track->locked && !zr_addr_eq(&track->source, from))
            return ZR_E_dropped;
        if (!track->locked || track->ssrc != ssrc)
            lock |= ZR_LOCK_NEW;
        track->locked = true;
    }
    if (track->heard && !zr_addr_same_ip(&track->rtcp, from))
        track->rtcp.family = 0; /* another host publishes now */
    track->heard = true;
    track->source = *from;
    track->ssrc = ssrc;
    track->heard_ns = now;
    return lock;
}

bool zr_ingress_allows_rtcp(const zr_ingress *ingress, const zr_addr *from)
{
    const zr_stream *stream = ingress->stream;

    for (unsigned i = 0; i < ingress->source_count; i++)
        if (!ingress->learn && zr_addr_same_ip(&ingress->sources[i], from))
            return true;
    for (unsigned i = 0; ingress->learn && i < stream->track_count; i++)
        if (stream->tracks[i].locked && zr_addr_same_ip(&stream->tracks[i].source, from))
            return true;
    return false;
}

bool zr_ingress_release(zr_track *track, zr_ns_t now)
{
    if (!track->locked || now - track->heard_ns < ZR_LOCK_SILENCE)
        return false;
    track->locked = track->heard = false;
    track->rtcp.family = 0;
    return true;
}

bool zr_ingress_locked(const zr_ingress *ingress)
{
    for (unsigned i = 0; ingress->stream != NULL && i < ingress->stream->track_count; i++)
        if (ingress->stream->tracks[i].locked)
            return true;
    return false;
}
