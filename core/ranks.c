#include "core/ranks.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/file.h"

#ifdef FR_MPI
#include <mpi.h>
#include <time.h>
#endif

const fr_ranks fr_ranks_alone = {.rank = 0, .size = 1};

int fr_ranks_rank(const fr_ranks *ranks) {
    return ranks ? ranks->rank : 0;
}

int fr_ranks_size(const fr_ranks *ranks) {
    return ranks ? ranks->size : 1;
}

/* ---- MPI ---- */

#ifdef FR_MPI
static void gather_mpi(const fr_ranks *ranks, void *all, const int *counts, const int *at) {
    (void)ranks;
    MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, counts, at, MPI_BYTE, MPI_COMM_WORLD);
}

/* Exchanges of a pass are made by whichever thread comes last to a barrier, so one at a time, but not always the same. */
fr_status fr_ranks_join(fr_ranks **out, fr_error *error) {
    static fr_ranks ranks = {.gather = gather_mpi};
    static MPI_Comm meeting;
    int provided = MPI_THREAD_SINGLE;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS || provided < MPI_THREAD_SERIALIZED)
        return fr_fail(error, FR_ERROR_UNSUPPORTED, "MPI: it cannot be called by several threads, one at a time");
    MPI_Comm_rank(MPI_COMM_WORLD, &ranks.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks.size);
    if (ranks.size > FR_MAX_RANKS)
        return fr_fail(error, FR_ERROR_UNSUPPORTED, "MPI: %d ranks, but at most %d can share a model", ranks.size, FR_MAX_RANKS);
    MPI_Comm_dup(MPI_COMM_WORLD, &meeting);
    ranks.transport = &meeting;
    *out = &ranks;
    return FR_OK;
}

/* Others may be in the middle of an exchange, so this needs a communicator of its own. */
bool fr_ranks_meet(fr_ranks *ranks, double seconds) {
    static const struct timespec pause = {.tv_nsec = 1000000};
    double start = fr_now();
    MPI_Request request;
    int met = ranks == NULL;
    if (met) return true;
    MPI_Ibarrier(*(MPI_Comm *)ranks->transport, &request);
    do {
        MPI_Test(&request, &met, MPI_STATUS_IGNORE);
        if (!met) nanosleep(&pause, NULL);
    } while (!met && fr_now() - start < seconds);
    return met;
}

void fr_ranks_end_all(fr_ranks *ranks, int code) {
    if (ranks) MPI_Abort(MPI_COMM_WORLD, code);
}

void fr_ranks_leave(fr_ranks *ranks) {
    if (ranks) MPI_Finalize();
}
#else
fr_status fr_ranks_join(fr_ranks **out, fr_error *error) {
    (void)out;
    fr_fail(error, FR_ERROR_UNSUPPORTED, "MPI: this build of forerun has none");
    return fr_hint(error, FR_ERROR_UNSUPPORTED, "configure with -DFORERUN_MPI=ON");
}

bool fr_ranks_meet(fr_ranks *ranks, double seconds) {
    (void)ranks, (void)seconds;
    return true;
}

void fr_ranks_end_all(fr_ranks *ranks, int code) {
    (void)ranks, (void)code;
}

void fr_ranks_leave(fr_ranks *ranks) {
    (void)ranks;
}
#endif

/* ---- Outside of passes ---- */

/* Piece i of counts[i] bytes behind those of the ranks before. */
static void gather(const fr_ranks *ranks, void *all, const int *counts) {
    int at[FR_MAX_RANKS];
    for (int i = 0, next = 0; i < ranks->size; next += counts[i++]) at[i] = next;
    ranks->gather(ranks, all, counts, at);
}

void fr_ranks_share(const fr_ranks *ranks, void *bytes, size_t size) {
    enum { MOST = 1 << 30 };
    int counts[FR_MAX_RANKS] = {0};
    if (!ranks || ranks->size == 1) return;
    for (size_t done = 0; done < size; done += (size_t)counts[0]) {
        counts[0] = size - done < MOST ? (int)(size - done) : MOST;
        gather(ranks, (char *)bytes + done, counts);
    }
}

/* Who speaks: rank 0 prints what happened elsewhere. */
static void name_rank(const fr_ranks *ranks, fr_error *error) {
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    fr_context(error, error->status, "rank %d on %s", ranks->rank, host);
}

fr_status fr_ranks_agree(const fr_ranks *ranks, fr_status status, fr_error *error) {
    if (!ranks || ranks->size == 1) return status;
    fr_error unasked = {0}, *e = error ? error : &unasked;
    int all[FR_MAX_RANKS], counts[FR_MAX_RANKS], failed = 0;
    for (int i = 0; i < ranks->size; i++) counts[i] = (int)sizeof *all;
    all[ranks->rank] = (int)status;
    gather(ranks, all, counts);
    while (failed < ranks->size && all[failed] == FR_OK) failed++;
    if (failed == ranks->size) return FR_OK;
    if (failed == ranks->rank && failed > 0) name_rank(ranks, e);
    memset(counts, 0, sizeof counts);
    counts[failed] = (int)sizeof *e;
    gather(ranks, e, counts);
    return (fr_status)all[failed];
}

static fr_status read_here(const char *path, uint64_t limit, char **bytes, size_t *length, fr_error *error) {
    return limit ? fr_read_file(path, limit, bytes, length, error) : fr_read_input(path, bytes, length, error);
}

fr_status fr_ranks_read(const fr_ranks *ranks, const char *path, uint64_t limit, char **bytes, size_t *length, fr_error *error) {
    const bool first = fr_ranks_rank(ranks) == 0;
    FR_TRY(fr_ranks_agree(ranks, first ? read_here(path, limit, bytes, length, error) : FR_OK, error));
    fr_ranks_share(ranks, length, sizeof *length);
    if (!first) *bytes = fr_alloc_zeroed(*length + 1, 1); /* a NUL behind them */
    fr_status status = *bytes ? FR_OK : fr_fail_at(error, FR_ERROR_MEMORY, path, "no memory for what is in it");
    status = fr_ranks_agree(ranks, status, error);
    if (status == FR_OK) {
        fr_ranks_share(ranks, *bytes, *length);
        return FR_OK;
    }
    fr_free(*bytes);
    *bytes = NULL;
    return status;
}

/* ---- Exchanges inside a pass ---- */

void fr_exchange_take(fr_exchange *e, fr_arena *arena, const fr_ranks *ranks, size_t bytes) {
    *e = (fr_exchange){.ranks = ranks};
    if (ranks->size == 1) return;
    e->bytes = bytes;
    e->staging = FR_TAKE(arena, char, bytes);
    e->counts = FR_TAKE(arena, int, ranks->size);
    e->at = FR_TAKE(arena, int, ranks->size);
}

/* Bytes [*begin, *end) of a plane's row are rank i's. */
static void piece_of(const fr_exchange *e, const fr_plane *p, int i, size_t *begin, size_t *end) {
    int first, last;
    fr_ranks_part(e->ranks, i, p->width, p->unit, &first, &last);
    *begin = (size_t)((first + p->columns - 1) / p->columns) * p->column_bytes;
    *end = (size_t)((last + p->columns - 1) / p->columns) * p->column_bytes;
}

static size_t row_bytes(const fr_plane *p) {
    return (size_t)((p->width + p->columns - 1) / p->columns) * p->column_bytes;
}

typedef struct job {
    const fr_exchange *e;
    const fr_plane *planes;
    int count;
    bool many; /* bytes; then values that have codes travel as these */
} job;

static bool travels_as_codes(const job *j, const fr_plane *p) {
    return j->many && p->codes;
}

/* What fits into staging at a time: rows of one plane after the other, from row `row` of plane `plane` up to the next lot's. */
typedef struct lot {
    int plane, row;
} lot;

static lot lot_behind(const job *j, lot at) {
    size_t left = j->e->bytes;
    for (; at.plane < j->count; at = (lot){at.plane + 1, 0}) {
        const fr_plane *p = &j->planes[at.plane];
        size_t rows = left / row_bytes(p), wanted = (size_t)(p->rows - at.row);
        if (rows < wanted) return (lot){at.plane, at.row + (int)rows};
        left -= wanted * row_bytes(p);
    }
    return at;
}

/* ---- Codes ---- */

/* The code of an E4M3 value that is carried as BF16, and back; exact, NaN included. Whole numbers without branches, of which
 * compilers make vectors. A subnormal, k * 2^-9, is found by counting the values from 1 * 2^-9 on that it reaches. */
static inline uint8_t code_of(uint16_t value) {
    uint16_t m = value & 0x7fff, normal = (uint16_t)((m >> 4) - (120 << 3));
    uint16_t k =
        (uint16_t)((m >= 0x3b00) + (m >= 0x3b80) + (m >= 0x3bc0) + (m >= 0x3c00) + (m >= 0x3c20) + (m >= 0x3c40) + (m >= 0x3c60));
    uint16_t is_normal = (uint16_t) - (m >= 0x3c80), is_nan = (uint16_t) - (m > 0x7f80);
    uint16_t code = (uint16_t)((normal & is_normal) | (k & ~is_normal) | (0x7f & is_nan));
    return (uint8_t)((code & 0x7f) | (value >> 8 & 0x80));
}

static inline uint16_t value_of(uint8_t code) {
    uint16_t m = code & 0x7f, normal = (uint16_t)((m << 4) + (120 << 7));
    uint16_t k = (uint16_t)((m > 0) * 0x3b00 + (m > 1) * 0x80 + (m > 2) * 0x40 + (m > 3) * 0x40 + (m > 4) * 0x20 +
                            (m > 5) * 0x20 + (m > 6) * 0x20);
    uint16_t value = m > 7 ? normal : k;
    value = m == 0x7f ? 0x7fc0 : value;
    return (uint16_t)(value | (code & 0x80) << 8);
}

static void encode(char *to, const char *row, size_t count) {
    const uint16_t *restrict values = (const uint16_t *)(const void *)row;
    uint8_t *restrict codes = (uint8_t *)to;
    for (size_t i = 0; i < count; i++) codes[i] = code_of(values[i]);
}

static void decode(char *row, const char *from, size_t count) {
    uint16_t *restrict values = (uint16_t *)(void *)row;
    const uint8_t *restrict codes = (const uint8_t *)from;
    for (size_t i = 0; i < count; i++) values[i] = value_of(codes[i]);
}

/* ---- Lots ---- */

/* All that rank i has of a lot: its bytes. */
static int count_pieces(const job *j, lot from, lot to, int i) {
    size_t bytes = 0, begin, end;
    for (; from.plane < j->count && from.plane <= to.plane; from = (lot){from.plane + 1, 0}) {
        const fr_plane *p = &j->planes[from.plane];
        int last = from.plane < to.plane ? p->rows : to.row;
        piece_of(j->e, p, i, &begin, &end);
        bytes += (size_t)(last - from.row) * (travels_as_codes(j, p) ? (end - begin) / 2 : end - begin);
    }
    return (int)bytes;
}

/* Part `part` of `parts` of its rows, to staging or from there. */
static void move_pieces(const job *j, lot from, lot to, int i, bool packs, int part, int parts) {
    char *piece = j->e->staging + j->e->at[i];
    size_t begin, end;
    int turn = 0;
    for (; from.plane < j->count && from.plane <= to.plane; from = (lot){from.plane + 1, 0}) {
        const fr_plane *p = &j->planes[from.plane];
        int last = from.plane < to.plane ? p->rows : to.row;
        piece_of(j->e, p, i, &begin, &end);
        const bool coded = travels_as_codes(j, p);
        const size_t bytes = coded ? (end - begin) / 2 : end - begin;
        for (int r = from.row; r < last; r++, piece += bytes) {
            char *row = (char *)p->x + (size_t)r * p->stride + begin;
            if (turn++ % parts != part) continue;
            if (coded)
                packs ? encode(piece, row, bytes) : decode(row, piece, bytes);
            else
                memcpy(packs ? piece : row, packs ? row : piece, bytes);
        }
    }
}

static void plan_lot(const job *j, lot from, lot to) {
    const fr_exchange *e = j->e;
    for (int i = 0, next = 0; i < e->ranks->size; next += e->counts[i++]) {
        e->counts[i] = count_pieces(j, from, to, i);
        e->at[i] = next;
    }
}

static void unpack_lot(const job *j, lot from, lot to, int part, int parts) {
    for (int i = 0; i < j->e->ranks->size; i++)
        if (i != j->e->ranks->rank) move_pieces(j, from, to, i, false, part, parts);
}

static lot next_lot(const job *j, lot from) {
    lot to = lot_behind(j, from);
    assert(to.plane > from.plane || to.row > from.row); /* staging has room for a row */
    return to;
}

/* ---- Few bytes: by the last thread to come ---- */

/* A single row lies as it travels. */
static void exchange_row(const fr_exchange *e, const fr_plane *p) {
    for (int i = 0; i < e->ranks->size; i++) {
        size_t begin, end;
        piece_of(e, p, i, &begin, &end);
        e->at[i] = (int)begin;
        e->counts[i] = (int)(end - begin);
    }
    e->ranks->gather(e->ranks, p->x, e->counts, e->at);
}

static void exchange_alone(void *argument) {
    const job *j = argument;
    const fr_exchange *e = j->e;
    if (j->count == 1 && j->planes->rows == 1 && !travels_as_codes(j, j->planes)) {
        exchange_row(e, j->planes);
        return;
    }
    for (lot from = {0, 0}, to; from.plane < j->count; from = to) {
        to = next_lot(j, from);
        plan_lot(j, from, to);
        move_pieces(j, from, to, e->ranks->rank, true, 0, 1);
        e->ranks->gather(e->ranks, e->staging, e->counts, e->at);
        unpack_lot(j, from, to, 0, 1);
    }
}

/* ---- Many bytes: all threads pack and unpack ---- */

typedef struct lot_job {
    const job *j;
    lot from, to;
} lot_job;

static void plan_together(void *argument) {
    const lot_job *l = argument;
    plan_lot(l->j, l->from, l->to);
}

static void gather_together(void *argument) {
    const fr_exchange *e = ((const lot_job *)argument)->j->e;
    e->ranks->gather(e->ranks, e->staging, e->counts, e->at);
}

/* TEAM. */
static void exchange_together(const job *j) {
    const int part = fr_team_rank(), parts = fr_team_size();
    lot_job l = {.j = j};
    for (; l.from.plane < j->count; l.from = l.to) {
        l.to = next_lot(j, l.from);
        fr_team_barrier_do(plan_together, &l);
        move_pieces(j, l.from, l.to, j->e->ranks->rank, true, part, parts);
        fr_team_barrier_do(gather_together, &l);
        unpack_lot(j, l.from, l.to, part, parts);
    }
    fr_team_barrier();
}

/* Encoding takes a thread half a nanosecond a value, which pays where all of them do it. Which planes travel as codes
 * does not depend on threads: ranks may have different numbers of these. */
void fr_exchange_planes(const fr_exchange *e, const fr_plane *planes, int count) {
    enum { MANY = 1 << 20 };
    job j = {e, planes, count, false};
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += (size_t)planes[i].rows * row_bytes(&planes[i]);
    j.many = bytes >= MANY;
    if (e->ranks->size == 1)
        fr_team_barrier();
    else if (j.many && fr_team_size() > 1)
        exchange_together(&j);
    else
        fr_team_barrier_do(exchange_alone, &j);
}
