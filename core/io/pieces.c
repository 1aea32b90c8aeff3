/* What is to be read, as pieces; and what becomes of a read when they come back. */
#include <errno.h>

#include "core/clock.h"
#include "core/io/private.h"

#define PAGE ((uint64_t)FR_READ_PAGE)

_Static_assert(FR_READ_PIECE % FR_READ_PAGE == 0, "pieces begin at pages");

void fr_reader_enlist(fr_reader *r, fr_read *read) {
    fr_read_list *list = read->urgent ? &r->urgent : &r->low;
    read->listed = true;
    read->after = NULL;
    read->before = list->last;
    *(list->last ? &list->last->after : &list->first) = read;
    list->last = read;
}

void fr_reader_unlist(fr_reader *r, fr_read *read) {
    fr_read_list *list = read->urgent ? &r->urgent : &r->low;
    read->listed = false;
    *(read->before ? &read->before->after : &list->first) = read->after;
    *(read->after ? &read->after->before : &list->last) = read->before;
}

/* Whole pages from the first one of the range on. */
static uint64_t span_of(const fr_read *read) {
    uint64_t begin = read->offset / PAGE * PAGE;
    return (read->offset + read->bytes - begin + PAGE - 1) / PAGE * PAGE;
}

bool fr_reader_next(fr_reader *r, fr_piece *piece) {
    fr_read *read = r->urgent.first ? r->urgent.first : r->low.first;
    if (!read) return false;
    uint64_t inside = read->offset % PAGE, span = span_of(read), left = span - read->issued;
    uint64_t bytes = left < FR_READ_PIECE ? left : FR_READ_PIECE, end = read->issued + bytes;
    *piece = (fr_piece){.read = read,
                        .fd = r->files[read->file].fd,
                        .to = read->to - inside + read->issued,
                        .offset = read->offset - inside + read->issued,
                        .bytes = bytes,
                        .needed = (end < span ? end : inside + read->bytes) - read->issued};
    read->issued = end;
    read->in_flight++;
    if (read->issued == span) fr_reader_unlist(r, read);
    if (r->in_flight++ == 0) r->busy_since = fr_now();
    return true;
}

void fr_reader_end(fr_reader *r, fr_read *read, fr_read_state state) {
    atomic_store_explicit(&read->state, state, memory_order_release);
    atomic_fetch_add(&r->events, 1);
}

/* got: bytes of the piece that there are. */
static void fail_read(fr_reader *r, const fr_piece *piece, uint64_t got, int error) {
    fr_read *read = piece->read;
    if (read->failed_at != UINT64_MAX) return; /* the first failure is told */
    read->failed_at = piece->offset + got;
    read->error = error;
    if (read->listed) fr_reader_unlist(r, read);
}

bool fr_reader_over(fr_reader *r, fr_piece *piece, int64_t result) {
    fr_read *read = piece->read;
    bool failed = read->failed_at != UINT64_MAX;
    if (result == -EINTR || result == -EAGAIN) return true;
    if (result > 0) r->bytes += (uint64_t)result;
    if (result > 0 && !failed && (uint64_t)result < piece->needed) { /* goes on at the last whole page */
        uint64_t whole = (uint64_t)result / PAGE * PAGE;
        if (whole > 0) {
            *piece = (fr_piece){
                read, piece->fd, piece->to + whole, piece->offset + whole, piece->bytes - whole, piece->needed - whole};
            return true;
        }
        fail_read(r, piece, (uint64_t)result, 0);
    }
    if (result <= 0) fail_read(r, piece, 0, (int)-result);
    if (--r->in_flight == 0) r->busy_s += fr_now() - r->busy_since;
    if (--read->in_flight > 0 || read->listed) return false;
    fr_reader_end(r, read, read->failed_at != UINT64_MAX ? FR_READ_FAILED : read->canceled ? FR_READ_IDLE : FR_READ_DONE);
    return false;
}
