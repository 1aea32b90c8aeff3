/* Session files: fr_session_save and fr_session_load.
 *
 * All numbers are little-endian. A header of 128 bytes (struct header below says what is in it), then without gaps
 *
 *   tokens       i32 [length]
 *   main KV      [layers, kv_length, rank + rope], in the cache's own type
 *   index keys   [index_layers, kv_length, index_dim], likewise; only with sparse attention
 *   MTP KV       [1, mtp_kv_length, rank + rope]
 *   index keys   [1, mtp_kv_length, index_dim], the MTP module's; only with sparse attention
 *   hidden       f32 [kv_length - mtp_kv_length, hidden_size]: what the MTP module has yet to read; none without it
 *                (these three are the drafter's state, as its `save` gives it)
 *   logits       f32 [vocab_size], only when they are what the next token is chosen from
 *
 * That, and the seed, is all that tokens to come depend on (see the invariants in mtp/session.h and mtp/drafters/mtp.h): noise is
 * a function of seed, position and token. Not in the file, since they are the session's own: options, what the depth policy has
 * learned, statistics.
 *
 * Loading trusts nothing: sizes are held to the session's and to the file's before anything is allocated or read,
 * memory is allocated by the session's measure, and the session is touched when all has been read and the checksum
 * holds. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/checkpoint/checksum.h"
#include "core/new_file.h"
#include "model/cache.h"
#include "mtp/session.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "arrays go to session files as they lie in memory: little-endian only"
#endif

static const unsigned char magic[8] = {0x89, 'F', 'R', 'S', 'E', 'S', 'S', '\n'};
enum { VERSION = 1, HEADER_BYTES = 128, HEADER_CRC_AT = 124, PIECE = 1 << 20 };

typedef struct header {
    uint64_t fingerprint, file_bytes, seed;
    uint32_t hidden_size, vocab_size, layers, rank, rope, kv_type, act_fp8;
    uint32_t mtp, mtp_hidden; /* the MTP module is followed; fr_hidden_state */
    uint32_t length, generated, kv_length, mtp_kv_length, logits_rows;
    uint32_t payload_crc;
    uint32_t index_layers, index_dim; /* 0: no sparse attention, and nothing in files from before there was any */
} header;

/* ---- The header ---- */

/* Where each field lies, for both directions; before them magic, version and the header's size. */
typedef struct field {
    uint16_t at, bytes;
    size_t member;
} field;
#define FIELD(at, name)                                                                                                          \
    { at, sizeof((header *)0)->name, offsetof(header, name) }
static const field fields[] = {
    FIELD(16, fingerprint),   FIELD(24, file_bytes),  FIELD(32, seed),        FIELD(40, hidden_size),   FIELD(44, vocab_size),
    FIELD(48, layers),        FIELD(52, rank),        FIELD(56, rope),        FIELD(60, kv_type),       FIELD(64, act_fp8),
    FIELD(68, mtp),           FIELD(72, mtp_hidden),  FIELD(76, length),      FIELD(80, generated),     FIELD(84, kv_length),
    FIELD(88, mtp_kv_length), FIELD(92, logits_rows), FIELD(96, payload_crc), FIELD(100, index_layers), FIELD(104, index_dim),
};

static void put_u32(unsigned char *to, uint32_t value) {
    memcpy(to, &value, sizeof value);
}

static uint32_t get_u32(const unsigned char *from) {
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static void pack(const header *h, unsigned char *bytes) {
    memset(bytes, 0, HEADER_BYTES);
    memcpy(bytes, magic, sizeof magic);
    put_u32(bytes + 8, VERSION);
    put_u32(bytes + 12, HEADER_BYTES);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        memcpy(bytes + fields[i].at, (const char *)h + fields[i].member, fields[i].bytes);
    put_u32(bytes + HEADER_CRC_AT, fr_crc32c(0, bytes, HEADER_CRC_AT));
}

static void unpack(const unsigned char *bytes, header *h) {
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        memcpy((char *)h + fields[i].member, bytes + fields[i].at, fields[i].bytes);
}

static size_t row_bytes(const fr_session *s) {
    return (size_t)(s->kv.rank + s->kv.rope) * (s->kv.type == FR_KV_F32 ? sizeof(float) : sizeof(uint16_t));
}

static size_t key_bytes(const fr_session *s) {
    return (size_t)s->kv.index_dim * (s->kv.type == FR_KV_F32 ? sizeof(float) : sizeof(uint16_t));
}

static uint32_t hidden_rows(const header *h) {
    return h->mtp ? h->kv_length - h->mtp_kv_length : 0;
}

/* Bytes of the drafter's state. */
static uint64_t state_bytes(const fr_session *s, const header *h) {
    return h->mtp_kv_length * (row_bytes(s) + key_bytes(s)) + (uint64_t)hidden_rows(h) * h->hidden_size * sizeof(float);
}

/* How large a file with this header has to be. The fields have been checked against the session. */
static uint64_t file_bytes(const fr_session *s, const header *h) {
    return HEADER_BYTES + (uint64_t)h->length * sizeof(int32_t) + (uint64_t)h->layers * h->kv_length * row_bytes(s) +
           (uint64_t)h->index_layers * h->kv_length * key_bytes(s) + state_bytes(s, h) +
           (uint64_t)h->logits_rows * h->vocab_size * sizeof(float);
}

static void describe(const fr_session *s, header *h) {
    const fr_config *c = &s->model->config;
    *h = (header){
        .fingerprint = s->model->fingerprint,
        .seed = s->options.sampling.seed,
        .hidden_size = (uint32_t)c->hidden_size,
        .vocab_size = (uint32_t)c->vocab_size,
        .layers = (uint32_t)s->kv.layers,
        .rank = (uint32_t)s->kv.rank,
        .rope = (uint32_t)s->kv.rope,
        .index_layers = (uint32_t)s->kv.index_layers,
        .index_dim = (uint32_t)s->kv.index_dim,
        .kv_type = s->kv.type,
        .act_fp8 = s->model->act_fp8,
        .mtp = fr_drafter_has_state(s->drafter),
        .mtp_hidden = s->options.mtp_hidden,
        .length = (uint32_t)s->length,
        .generated = (uint32_t)s->generated,
        .kv_length = (uint32_t)s->kv.length,
        .mtp_kv_length = (uint32_t)fr_drafter_save(s->drafter).read,
        .logits_rows = s->length > 0 && s->kv.length == s->length,
    };
    h->file_bytes = file_bytes(s, h);
}

/* ---- Saving ---- */

typedef struct file {
    const char *path;
    int fd;
    uint32_t crc; /* of what was written or read since it was 0 */
    fr_error *error;
} file;

static fr_status put(file *f, const void *bytes, uint64_t count) {
    const char *from = bytes;
    for (uint64_t done = 0; done < count; done += PIECE) {
        uint64_t piece = count - done < PIECE ? count - done : PIECE;
        int number = fr_write(f->fd, from + done, piece);
        if (number) return fr_fail_write(f->error, f->path, number);
        f->crc = fr_crc32c(f->crc, from + done, (size_t)piece);
    }
    return FR_OK;
}

static fr_status put_all(const fr_session *s, header *h, file *f) {
    unsigned char bytes[HEADER_BYTES] = {0}; /* the header comes last: it has the payload's checksum */
    fr_drafter_state state = fr_drafter_save(s->drafter);
    FR_TRY(put(f, bytes, sizeof bytes));
    f->crc = 0;
    FR_TRY(put(f, s->tokens, h->length * sizeof(int32_t)));
    for (int layer = 0; layer < s->kv.layers && h->kv_length > 0; layer++)
        FR_TRY(put(f, fr_kv_cache_row(&s->kv, layer, 0), h->kv_length * row_bytes(s)));
    for (int layer = 0; layer < s->kv.index_layers && h->kv_length > 0; layer++)
        FR_TRY(put(f, fr_kv_cache_key(&s->kv, layer, 0), h->kv_length * key_bytes(s)));
    for (int i = 0; i < FR_STATE_PIECES; i++) FR_TRY(put(f, state.piece[i].bytes, state.piece[i].size));
    if (h->logits_rows > 0) FR_TRY(put(f, fr_session_logits(s), h->vocab_size * sizeof(float)));
    h->payload_crc = f->crc;
    pack(h, bytes);
    int number = fr_write_at(f->fd, bytes, sizeof bytes, 0);
    return number ? fr_fail_write(f->error, f->path, number) : FR_OK;
}

static fr_status save(const fr_session *s, const char *path, fr_error *error) {
    struct stat about;
    fr_new_file new;
    header h;
    describe(s, &h);
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode))
        return fr_fail_at(error, FR_ERROR_IO, path, "cannot write: it is there and is no regular file");
    FR_TRY(fr_new_file_open(&new, path, error));
    fr_status status = put_all(s, &h, &(file){.path = path, .fd = new.fd, .error = error});
    if (status == FR_OK) return fr_new_file_finish(&new, true, error);
    fr_new_file_discard(&new);
    return status;
}

/* All ranks have the same: one writes it. */
fr_status fr_session_save(const fr_session *s, const char *path, fr_error *error) {
    const fr_ranks *ranks = s->model->ranks;
    return fr_ranks_agree(ranks, ranks->rank == 0 ? save(s, path, error) : FR_OK, error);
}

/* ---- Loading ---- */

static fr_status get(file *f, void *bytes, uint64_t count) {
    char *to = bytes;
    while (count > 0) {
        size_t piece = count < PIECE ? (size_t)count : PIECE;
        ssize_t got = read(f->fd, to, piece);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fr_fail_at(f->error, FR_ERROR_IO, f->path, "cannot be read: %s", strerror(errno));
        if (got == 0) return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path, "it became shorter while it was read");
        f->crc = fr_crc32c(f->crc, to, (size_t)got);
        to += got;
        count -= (uint64_t)got;
    }
    return FR_OK;
}

static fr_status skip(file *f, uint64_t count) {
    char bytes[4096];
    for (; count > sizeof bytes; count -= sizeof bytes) FR_TRY(get(f, bytes, sizeof bytes));
    return get(f, bytes, count);
}

/* Reads the header and checks it against its own checksum; `bytes` is the file's size. */
static fr_status get_header(file *f, header *h, uint64_t bytes) {
    unsigned char packed[HEADER_BYTES];
    if (bytes < sizeof magic)
        return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path, "not a session file: it has %" PRIu64 " bytes", bytes);
    FR_TRY(get(f, packed, bytes < HEADER_BYTES ? bytes : HEADER_BYTES));
    if (memcmp(packed, magic, sizeof magic) != 0)
        return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path, "not a session file: it begins otherwise");
    if (bytes < HEADER_BYTES)
        return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path, "cut off: it has %" PRIu64 " bytes, its header alone %d", bytes,
                          HEADER_BYTES);
    if (get_u32(packed + 8) != VERSION)
        return fr_fail_at(f->error, FR_ERROR_UNSUPPORTED, f->path, "a session file of version %" PRIu32 ", this program reads %d",
                          get_u32(packed + 8), VERSION);
    uint32_t crc = fr_crc32c(0, packed, HEADER_CRC_AT), said = get_u32(packed + HEADER_CRC_AT);
    if (crc != said)
        return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path, "its header is damaged: checksum %08" PRIx32 ", it says %08" PRIx32,
                          crc, said);
    unpack(packed, h);
    if (h->file_bytes != bytes)
        return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path, "%s: it has %" PRIu64 " bytes of %" PRIu64,
                          bytes < h->file_bytes ? "cut off" : "something was added", bytes, h->file_bytes);
    return FR_OK;
}

/* Whether what was saved can go on in this session: the same model and numbers, a context that is long enough. */
static fr_status check_origin(const fr_session *s, const file *f, const header *h) {
    static const char *const kv_names[] = {"bf16", "f32"}, *const hidden_names[] = {"post", "pre"};
    header own;
    describe(s, &own);
    if (h->fingerprint != own.fingerprint || h->hidden_size != own.hidden_size || h->vocab_size != own.vocab_size ||
        h->layers != own.layers || h->rank != own.rank || h->rope != own.rope || h->index_layers != own.index_layers ||
        h->index_dim != own.index_dim)
        return fr_fail_at(f->error, FR_ERROR_UNSUPPORTED, f->path,
                          "the session of another model: fingerprint %016" PRIx64 ", this model has %016" PRIx64, h->fingerprint,
                          own.fingerprint);
    if (h->kv_type != own.kv_type) {
        fr_fail_at(f->error, FR_ERROR_UNSUPPORTED, f->path, "its KV cache is %s, the session's is %s",
                   h->kv_type < 2 ? kv_names[h->kv_type] : "of an unknown type", kv_names[own.kv_type]);
        return fr_hint(f->error, FR_ERROR_UNSUPPORTED, "--kv says what the cache holds");
    }
    if (h->act_fp8 != own.act_fp8) {
        fr_fail_at(f->error, FR_ERROR_UNSUPPORTED, f->path, "it was computed with activations %s, this model runs with them %s",
                   h->act_fp8 ? "in FP8" : "as they are", own.act_fp8 ? "in FP8" : "as they are");
        return fr_hint(f->error, FR_ERROR_UNSUPPORTED, "--act says how they are taken");
    }
    if (own.mtp && !h->mtp) {
        fr_fail_at(f->error, FR_ERROR_UNSUPPORTED, f->path, "it was saved without MTP, and the module has not read its text");
        return fr_hint(f->error, FR_ERROR_UNSUPPORTED, "it goes on with --mtp off");
    }
    if (own.mtp && h->mtp_hidden != own.mtp_hidden) {
        fr_fail_at(f->error, FR_ERROR_UNSUPPORTED, f->path,
                   "its MTP module read hidden states %s the norm, the session's reads %s", h->mtp_hidden ? "before" : "after",
                   hidden_names[own.mtp_hidden]);
        return fr_hint(f->error, FR_ERROR_UNSUPPORTED, "--mtp-hidden says which");
    }
    if (h->length > (uint32_t)s->ctx) {
        fr_fail_at(f->error, FR_ERROR_CONTEXT, f->path, "its %" PRIu32 " tokens do not fit in a context of %d", h->length,
                   s->ctx);
        return fr_hint(f->error, FR_ERROR_CONTEXT, "ask for a longer context (--ctx, at most %d)",
                       s->model->config.max_position_embeddings);
    }
    return FR_OK;
}

/* The invariants of mtp/session.h, and a size that follows from them. */
static fr_status check_lengths(const fr_session *s, const file *f, const header *h) {
    uint32_t n = h->length, most_hidden = FR_DECODE_ROWS; /* a prefill pass has to fit behind them */
    bool evaluated = h->kv_length == n || h->kv_length + 1 == n;
    bool behind = h->mtp_kv_length <= h->kv_length && (h->mtp_kv_length < n || h->mtp_kv_length == 0);
    bool flags = h->mtp <= 1 && h->mtp_hidden <= 1 && h->logits_rows == (n > 0 && h->kv_length == n);
    if (h->kv_length > n || !evaluated || !behind || !flags || h->generated > n || (!h->mtp && h->mtp_kv_length > 0))
        return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path,
                          "its lengths contradict each other: %" PRIu32 " tokens, %" PRIu32 " in the prompt, %" PRIu32
                          " evaluated, %" PRIu32 " by MTP, %" PRIu32 " rows of logits",
                          n, h->generated, h->kv_length, h->mtp_kv_length, h->logits_rows);
    if (fr_drafter_has_state(s->drafter) && hidden_rows(h) > most_hidden)
        return fr_fail_at(f->error, FR_ERROR_UNSUPPORTED, f->path,
                          "the MTP module has %" PRIu32 " positions yet to read, the session keeps %" PRIu32, hidden_rows(h),
                          most_hidden);
    if (h->file_bytes != file_bytes(s, h))
        return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path, "it says that it has %" PRIu64 " bytes, its lengths make %" PRIu64,
                          h->file_bytes, file_bytes(s, h));
    return FR_OK;
}

/* What is read before the session is touched. */
typedef struct loaded {
    header h;
    int32_t *tokens;
    void *state; /* of the drafter; nothing for one that keeps none */
    float *logits;
    fr_kv_cache kv;
} loaded;

static fr_status allocate(const fr_session *s, loaded *l, fr_error *error) {
    const fr_kv_cache *kv = &s->kv;
    FR_TRY(fr_cache_create(&l->kv, &s->model->config, FR_CACHE_MAIN, kv->ctx, kv->type, error));
    l->tokens = fr_alloc(l->h.length * sizeof(int32_t));
    l->state = fr_alloc(fr_drafter_has_state(s->drafter) ? state_bytes(s, &l->h) : 0);
    l->logits = fr_alloc(l->h.logits_rows * l->h.vocab_size * sizeof(float));
    if (!l->tokens || !l->state || !l->logits) return fr_fail(error, FR_ERROR_MEMORY, "session: out of memory");
    return FR_OK;
}

static fr_status get_payload(const fr_session *s, file *f, loaded *l) {
    const header *h = &l->h;
    f->crc = 0;
    FR_TRY(get(f, l->tokens, h->length * sizeof(int32_t)));
    for (int layer = 0; layer < l->kv.layers && h->kv_length > 0; layer++)
        FR_TRY(get(f, (void *)fr_kv_cache_row(&l->kv, layer, 0), h->kv_length * row_bytes(s)));
    for (int layer = 0; layer < l->kv.index_layers && h->kv_length > 0; layer++)
        FR_TRY(get(f, (void *)fr_kv_cache_key(&l->kv, layer, 0), h->kv_length * key_bytes(s)));
    FR_TRY(fr_drafter_has_state(s->drafter) ? get(f, l->state, state_bytes(s, h)) : skip(f, state_bytes(s, h)));
    FR_TRY(get(f, l->logits, h->logits_rows * h->vocab_size * sizeof(float)));
    if (f->crc != h->payload_crc)
        return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path, "its data are damaged: checksum %08" PRIx32 ", it says %08" PRIx32,
                          f->crc, h->payload_crc);
    for (uint32_t i = 0; i < h->length; i++)
        if (l->tokens[i] < 0 || l->tokens[i] >= s->model->config.vocab_size)
            return fr_fail_at(f->error, FR_ERROR_FORMAT, f->path,
                              "token %" PRIu32 ": id %" PRId32 " is not in the vocabulary of %d", i, l->tokens[i],
                              s->model->config.vocab_size);
    return FR_OK;
}

/* Nothing here can fail: it comes when all ranks have read the file. */
static void take_over(fr_session *s, loaded *l) {
    const header *h = &l->h;
    fr_session_truncate(s, 0, NULL); /* the drafter forgets its text */
    fr_kv_cache before = s->kv;
    s->kv = l->kv;
    s->kv.length = (int)h->kv_length;
    l->kv = before;
    if (fr_drafter_has_state(s->drafter)) fr_drafter_load(s->drafter, (int)h->mtp_kv_length, (int)hidden_rows(h), l->state);
    memcpy(s->tokens, l->tokens, h->length * sizeof(int32_t));
    memcpy(s->logits, l->logits, h->logits_rows * h->vocab_size * sizeof(float));
    s->logits_row = h->logits_rows > 0 ? 0 : -1;
    s->length = (int)h->length;
    s->generated = (int)h->generated;
    s->options.sampling.seed = s->sampler.filters.sampling.seed = h->seed;
    fr_session_check(s);
}

static fr_status measure_file(const file *f, uint64_t *bytes) {
    struct stat about;
    if (fstat(f->fd, &about) != 0) return fr_fail_at(f->error, FR_ERROR_IO, f->path, "cannot be read: %s", strerror(errno));
    if (!S_ISREG(about.st_mode)) return fr_fail_at(f->error, FR_ERROR_IO, f->path, "cannot be read: it is no regular file");
    *bytes = (uint64_t)about.st_size;
    return FR_OK;
}

static fr_status read_file(const fr_session *s, file *f, loaded *l) {
    uint64_t bytes = 0;
    FR_TRY(measure_file(f, &bytes));
    FR_TRY(get_header(f, &l->h, bytes));
    FR_TRY(check_origin(s, f, &l->h));
    FR_TRY(check_lengths(s, f, &l->h));
    FR_TRY(allocate(s, l, f->error));
    return get_payload(s, f, l);
}

static fr_status open_file(file *f) {
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait */
    return f->fd >= 0 ? FR_OK : fr_fail_at(f->error, FR_ERROR_IO, f->path, "cannot be read: %s", strerror(errno));
}

static fr_status open_regular_file(file *f) {
    uint64_t bytes = 0;
    FR_TRY(open_file(f));
    return measure_file(f, &bytes); /* a device might have no end */
}

/* What rank 0 reads of its file goes to all ranks' copies of it, in memory. */
static fr_status share_pieces(const fr_ranks *ranks, file *f, int copy, char *piece) {
    int64_t got = 1;
    while (got > 0) {
        fr_status status = FR_OK;
        if (ranks->rank == 0 && (got = read(f->fd, piece, PIECE)) < 0)
            status = fr_fail_at(f->error, FR_ERROR_IO, f->path, "cannot be read: %s", strerror(errno));
        FR_TRY(fr_ranks_agree(ranks, status, f->error));
        fr_ranks_share(ranks, &got, sizeof got);
        fr_ranks_share(ranks, piece, (size_t)got);
        if (got > 0 && write(copy, piece, (size_t)got) != got)
            status = fr_fail_at(f->error, FR_ERROR_MEMORY, f->path, "no memory to read it into");
        FR_TRY(fr_ranks_agree(ranks, status, f->error));
    }
    lseek(copy, 0, SEEK_SET);
    return FR_OK;
}

/* Puts the copy in the place of the file, which rank 0 alone must have. */
static fr_status share_file(const fr_ranks *ranks, file *f) {
    int copy = memfd_create("session", MFD_CLOEXEC);
    char *piece = fr_alloc(PIECE);
    fr_status status = ranks->rank == 0 ? open_regular_file(f) : FR_OK;
    if (status == FR_OK && (copy < 0 || !piece))
        status = fr_fail_at(f->error, FR_ERROR_MEMORY, f->path, "no memory to read it into");
    status = fr_ranks_agree(ranks, status, f->error);
    if (status == FR_OK) status = share_pieces(ranks, f, copy, piece);
    fr_free(piece);
    if (f->fd >= 0) close(f->fd);
    f->fd = copy;
    return status;
}

fr_status fr_session_load(fr_session *s, const char *path, fr_error *error) {
    const fr_ranks *ranks = s->model->ranks;
    loaded l = {0};
    file f = {.path = path, .error = error, .fd = -1};
    fr_status status = ranks->size > 1 ? share_file(ranks, &f) : open_file(&f);
    if (status == FR_OK) status = fr_ranks_agree(ranks, read_file(s, &f, &l), error);
    if (status == FR_OK) take_over(s, &l);
    if (f.fd >= 0) close(f.fd);
    fr_kv_cache_release(&l.kv);
    fr_free(l.tokens);
    fr_free(l.state);
    fr_free(l.logits);
    return status;
}
