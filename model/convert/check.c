/* Reads a whole checkpoint once, and checks every tensor that the config implies and every value of every tensor. */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/checkpoint/scan.h"
#include "core/memory.h"
#include "core/processors.h"
#include "forerun_checkpoint.h"
#include "model/schema.h"
#include "model/source.h"
#include "text/tokenizer.h"

_Static_assert(FR_SCAN_BYTES <= UINT32_MAX && FR_SCAN_BYTES % 4 == 0, "bad values of a piece are counted in 32 bits");

typedef struct checker {
    const char *dir;
    int threads;
    fr_problem_fn report;
    fr_notice_fn notice;
    void *user;
    fr_progress_fn progress;
    void *progress_user;
    fr_config config;
    fr_notices notices;
    bool headers_only; /* values are not read */
    bool has_config, mtp_left_out;
    bool lost; /* what is in a file: it cannot be read */
    fr_checkpoint *checkpoint;
    bool *expected; /* [tensors of the checkpoint] named by the config */
    uint64_t problems;
    /* names of tensors that opening found broken, which are not reported as missing too; sorted before they are looked up */
    char **known;
    size_t num_known, room_known;
} checker;

/* ---- Reporting ---- */

static void pass_on(checker *c, const fr_problem *problem) {
    c->problems++;
    if (c->report) c->report(c->user, problem);
}

static void complain(checker *c, const char *tensor, const char *file, const char *format, ...) FR_PRINTF(4, 5);

static void complain(checker *c, const char *tensor, const char *file, const char *format, ...) {
    char text[640];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pass_on(c, &(fr_problem){.tensor = tensor, .file = file, .problem = text});
}

/* Called while opening. A tensor may be reported twice if there is no memory to keep its name. */
static void report_opening(void *user, const fr_problem *problem) {
    checker *c = user;
    if (problem->problem) pass_on(c, problem);
    c->lost = c->lost || !*problem->tensor;
    if (!*problem->tensor) return;
    if (c->num_known == c->room_known) {
        size_t room = c->room_known ? 2 * c->room_known : 64;
        char **known = fr_grow(c->known, c->room_known * sizeof *known, room * sizeof *known);
        if (!known) return;
        c->known = known;
        c->room_known = room;
    }
    char *name = fr_strdup(problem->tensor);
    if (name) c->known[c->num_known++] = name;
}

static int compare_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_known(const checker *c, const char *name) {
    return c->num_known && bsearch(&name, c->known, c->num_known, sizeof *c->known, compare_text);
}

/* ---- Against the config ---- */

/* Finds a tensor and compares it with what is expected; NULL if it is missing. */
static const fr_tensor *check_tensor(checker *c, const char *name, unsigned dtypes, int rank, const int64_t *shape,
                                     bool optional) {
    const fr_tensor *tensor = fr_checkpoint_find(c->checkpoint, name);
    fr_error error;
    if (!tensor) {
        if (!optional && !is_known(c, name)) complain(c, name, "", "missing");
        return NULL;
    }
    c->expected[tensor - fr_checkpoint_at(c->checkpoint, 0)] = true;
    if (fr_checkpoint_get(c->checkpoint, name, dtypes, rank, shape, &tensor, &error) != FR_OK)
        complain(c, name, fr_checkpoint_file(c->checkpoint, tensor->file), "%s", fr_error_what(&error));
    return tensor;
}

/* Only E4M3 weights need scales. Scales of a weight that is missing or of a wrong type are not reported by themselves. */
static fr_status check_against_schema(void *user, const fr_schema_tensor *t) {
    checker *c = user;
    char scale[256];
    int64_t shape[2];
    const fr_tensor *tensor = check_tensor(c, t->name, fr_schema_dtypes(t->row->kind), t->rank, t->shape, t->optional);
    fr_error error;
    if (tensor && fr_schema_alike(t, c->checkpoint, tensor, &error) != FR_OK)
        complain(c, t->name, fr_checkpoint_file(c->checkpoint, tensor->file), "%s", fr_error_what(&error));
    if (tensor && (tensor->dtype == FR_BF16 || tensor->dtype == FR_F32)) return FR_OK;
    bool needed = tensor && tensor->dtype == FR_F8_E4M3;
    if (fr_schema_scale(t, scale, sizeof scale, shape)) check_tensor(c, scale, 1u << FR_F32, 2, shape, !needed);
    return FR_OK;
}

/* Reports tensors that the config does not imply. Those of an MTP module that it does not announce are a notice; those of other
 * layers beyond the last are one problem, not thousands.
 * Frequency tables, which old conversions keep, are none. */
static void report_unexpected(checker *c) {
    uint64_t beyond = 0;
    for (size_t i = 0; i < fr_checkpoint_count(c->checkpoint); i++) {
        const fr_tensor *tensor = fr_checkpoint_at(c->checkpoint, i);
        if (c->expected[i] || strstr(tensor->name, ".rotary_emb.")) continue;
        if (fr_schema_layer_of(tensor->name) >= c->config.num_hidden_layers + c->config.num_nextn_predict_layers)
            beyond += !c->mtp_left_out;
        else
            complain(c, tensor->name, fr_checkpoint_file(c->checkpoint, tensor->file), "the config implies no such tensor");
    }
    if (beyond)
        complain(c, "", "config.json",
                 "%" PRIu64 " tensors are of layers beyond num_hidden_layers %d + num_nextn_predict_layers %d", beyond,
                 c->config.num_hidden_layers, c->config.num_nextn_predict_layers);
}

/* ---- Values ---- */

/* What the values of a tensor are verified to be. */
typedef enum value_rule { FINITE_F32, POSITIVE_F32, FINITE_BF16, FINITE_F16, FINITE_E4M3, ANY_VALUE } value_rule;

static value_rule rule_of(const fr_tensor *tensor) {
    switch (tensor->dtype) {
    case FR_F32:
        return fr_schema_is_scale(tensor->name) ? POSITIVE_F32 : FINITE_F32;
    case FR_BF16:
        return FINITE_BF16;
    case FR_F16:
        return FINITE_F16;
    case FR_F8_E4M3:
        return FINITE_E4M3;
    default:
        return ANY_VALUE;
    }
}

/* These loops are simple and count in the width of the values, so that compilers vectorize them. Data may be unaligned. */

static uint32_t count_bad_8(const uint8_t *data, size_t bytes) {
    uint32_t bad = 0;
    for (size_t at = 0; at < bytes; at += 128) {
        size_t end = bytes - at < 128 ? bytes : at + 128;
        uint8_t here = 0; /* at most 128 */
        for (size_t i = at; i < end; i++) here = (uint8_t)(here + ((data[i] & 0x7f) == 0x7f));
        bad += here;
    }
    return bad;
}

static uint32_t count_bad_16(const uint8_t *data, size_t bytes, uint16_t exponent) {
    uint32_t bad = 0;
    for (size_t i = 0; i + 1 < bytes; i += 2) {
        uint16_t value;
        memcpy(&value, data + i, sizeof value);
        bad += (value & exponent) == exponent;
    }
    return bad;
}

/* Good values: first <= (bits & mask) < first + count. */
static uint32_t count_bad_32(const uint8_t *data, size_t bytes, uint32_t mask, uint32_t first, uint32_t count) {
    uint32_t bad = 0;
    for (size_t i = 0; i + 3 < bytes; i += 4) {
        uint32_t value;
        memcpy(&value, data + i, sizeof value);
        bad += (value & mask) - first >= count;
    }
    return bad;
}

/* Counts the elements that break the rule among `bytes` <= PART bytes. */
static uint32_t count_bad(value_rule rule, const uint8_t *data, size_t bytes) {
    switch (rule) {
    case FINITE_E4M3:
        return count_bad_8(data, bytes);
    case FINITE_BF16:
        return count_bad_16(data, bytes, 0x7f80);
    case FINITE_F16:
        return count_bad_16(data, bytes, 0x7c00);
    case FINITE_F32:
        return count_bad_32(data, bytes, 0x7fffffffu, 0, 0x7f800000u);
    case POSITIVE_F32: /* from the smallest subnormal number, 1, to the largest, 0x7f7fffff */
        return count_bad_32(data, bytes, 0xffffffffu, 1, 0x7f7fffffu);
    case ANY_VALUE:
        return 0;
    }
    return 0;
}

static void complain_of_values(checker *c, const fr_tensor *tensor, value_rule rule, uint64_t bad, uint64_t first) {
    static const char *const what[][2] = {
        [FINITE_F32] = {"non-finite value", "non-finite values"},
        [POSITIVE_F32] = {"scale that is not positive and finite", "scales that are not positive and finite"},
        [FINITE_BF16] = {"non-finite value", "non-finite values"},
        [FINITE_F16] = {"non-finite value", "non-finite values"},
        [FINITE_E4M3] = {"NaN code", "NaN codes"}};
    char at[128];
    size_t used = 0;
    int64_t index[FR_MAX_RANK];
    for (int i = tensor->rank - 1; i >= 0; i--) {
        index[i] = (int64_t)(first % (uint64_t)tensor->shape[i]);
        first /= (uint64_t)tensor->shape[i];
    }
    *at = '\0';
    for (int i = 0; i < tensor->rank; i++)
        used += (size_t)snprintf(at + used, sizeof at - used, "%s%" PRId64, i ? ", " : "", index[i]);
    complain(c, tensor->name, fr_checkpoint_file(c->checkpoint, tensor->file), "%" PRIu64 " %s, the first at [%s]", bad,
             what[rule][bad > 1], at);
}

/* What was found of a tensor so far. */
typedef struct scanned {
    atomic_ullong bad, first; /* elements that break the rule, and the lowest of them */
    atomic_ullong left;       /* bytes that were not looked at yet */
} scanned;

/* What of a file cannot be read. */
typedef struct unread {
    size_t tensors, last; /* how many, and the one that was counted last, + 1 */
    uint64_t offset;      /* of the first piece, in the tensor `first` */
    size_t first;
    int error;
} unread;

typedef struct scanning {
    checker *c;
    size_t *order;        /* of tensors, as they lie in the files; reported in this order, however many threads there are */
    size_t reported;      /* of them */
    scanned *tensors;     /* [count] by number */
    unread *files;        /* [files] */
    pthread_mutex_t lock; /* of files */
} scanning;

static void note_unread(scanning *s, const fr_scan_piece *piece) {
    const fr_tensor *tensor = fr_checkpoint_at(s->c->checkpoint, piece->tensor);
    pthread_mutex_lock(&s->lock);
    unread *u = &s->files[tensor->file];
    const fr_tensor *first = fr_checkpoint_at(s->c->checkpoint, u->first);
    bool earlier = (uintptr_t)tensor->data + piece->at < (uintptr_t)first->data + u->offset;
    if (u->tensors == 0 || earlier) u->offset = piece->at, u->first = piece->tensor, u->error = piece->error;
    u->tensors += u->last != piece->tensor + 1; /* a tensor's pieces are one thread's, or a large one's */
    u->last = piece->tensor + 1;
    pthread_mutex_unlock(&s->lock);
}

static uint64_t first_bad(value_rule rule, const fr_scan_piece *piece, size_t width) {
    size_t i = 0;
    while (!count_bad(rule, piece->data + i * width, width)) i++;
    return piece->at / width + i;
}

static void look(void *user, const fr_scan_piece *piece) {
    scanning *s = user;
    scanned *to = &s->tensors[piece->tensor];
    const fr_tensor *tensor = fr_checkpoint_at(s->c->checkpoint, piece->tensor);
    value_rule rule = rule_of(tensor);
    uint32_t bad = piece->error ? 0 : count_bad(rule, piece->data, piece->count);
    if (piece->error) note_unread(s, piece);
    if (bad) {
        unsigned long long first = first_bad(rule, piece, fr_dtype_size(tensor->dtype)), lowest = atomic_load(&to->first);
        while (first < lowest && !atomic_compare_exchange_weak(&to->first, &lowest, first)) continue;
        atomic_fetch_add(&to->bad, bad);
    }
    atomic_fetch_sub(&to->left, piece->count);
}

/* Reports what is looked at to its end, and progress. */
static bool report_scanned(void *user) {
    scanning *s = user;
    checker *c = s->c;
    size_t count = fr_checkpoint_count(c->checkpoint), before = s->reported;
    for (; s->reported < count; s->reported++) {
        const fr_tensor *tensor = fr_checkpoint_at(c->checkpoint, s->order[s->reported]);
        scanned *of = &s->tensors[s->order[s->reported]];
        if (atomic_load(&of->left) > 0) break;
        if (atomic_load(&of->bad)) complain_of_values(c, tensor, rule_of(tensor), of->bad, of->first);
    }
    return s->reported == before || !c->progress || c->progress(c->progress_user, "tensors", s->reported, count);
}

/* A file of which something cannot be read is one problem, whatever is in it. */
static void report_unread(const scanning *s) {
    for (int f = 0; f < fr_checkpoint_num_files(s->c->checkpoint); f++) {
        const unread *u = &s->files[f];
        if (u->tensors == 0) continue;
        complain(s->c, "", fr_checkpoint_file(s->c->checkpoint, f),
                 "%zu of its tensors cannot be read, the first is %s at its byte %" PRIu64 ": %s", u->tensors,
                 fr_checkpoint_at(s->c->checkpoint, u->first)->name, u->offset,
                 u->error < 0 ? "the file was cut meanwhile" : strerror(u->error));
    }
}

static fr_status scan_all(checker *c, fr_error *error) {
    size_t count = fr_checkpoint_count(c->checkpoint);
    scanning s = {.c = c, .lock = PTHREAD_MUTEX_INITIALIZER};
    fr_status status = FR_OK;
    s.order = fr_alloc(count * sizeof *s.order);
    s.tensors = fr_alloc_zeroed(count, sizeof *s.tensors);
    s.files = fr_alloc_zeroed((size_t)fr_checkpoint_num_files(c->checkpoint), sizeof *s.files);
    if (!s.order || !s.tensors || !s.files) FR_CHECK(fr_fail_at(error, FR_ERROR_MEMORY, c->dir, "no memory for its check"));
    fr_checkpoint_order(c->checkpoint, s.order);
    for (size_t i = 0; i < count; i++) {
        atomic_store(&s.tensors[i].first, UINT64_MAX);
        atomic_store(&s.tensors[i].left, fr_checkpoint_at(c->checkpoint, i)->bytes);
    }
    fr_scan_options o = {
        .order = s.order, .num_tensors = count, .threads = c->threads, .look = look, .go_on = report_scanned, .user = &s};
    status = fr_checkpoint_scan(c->checkpoint, &o, error);
    if (status == FR_OK && !report_scanned(&s)) status = FR_INTERRUPTED;
    report_unread(&s);
done:
    fr_free(s.order);
    fr_free(s.tensors);
    fr_free(s.files);
    return status;
}

/* ---- All of it ---- */

/* Errors about a file beside the config name that one; the directory is known. */
static void complain_of_config(checker *c, const fr_error *error) {
    size_t length = strlen(c->dir);
    bool inside = strncmp(error->where, c->dir, length) == 0 && error->where[length] == '/';
    fr_place place = fr_place_of("%s", inside ? error->where + length + 1 : "config.json");
    char *key = strstr(place.text, ": ");
    if (key) *key = 0;
    complain(c, "", place.text, "%s%s%s%s%s", key ? key + 2 : "", key ? ": " : "", fr_error_what(error), *error->hint ? "; " : "",
             error->hint);
}

/* Whether what cannot be read may have been of the MTP module: then nothing can be said of it. */
static bool mtp_is_lost(const checker *c) {
    bool lost = c->lost;
    for (size_t i = 0; i < c->num_known; i++) lost = lost || fr_schema_layer_of(c->known[i]) >= c->config.num_hidden_layers;
    return lost;
}

/* One problem, and none for each tensor. */
static bool files_are_others(checker *c) {
    uint64_t experts;
    if (!fr_source_is_another(&c->config, c->checkpoint, &experts)) return false;
    complain(c, "", "config.json", "its experts alone have %" PRIu64 " tensors, and the files %zu in all", experts,
             fr_checkpoint_count(c->checkpoint));
    return true;
}

/* A config that cannot be used is a problem; the values can be checked without it. */
static fr_status check_all(checker *c, const fr_error *no_config, fr_error *error) {
    fr_mtp_files mtp;
    if (!c->has_config) complain_of_config(c, no_config);
    if (c->num_known) qsort(c->known, c->num_known, sizeof *c->known, compare_text);
    if (c->has_config && !files_are_others(c)) {
        c->expected = fr_alloc_zeroed(fr_checkpoint_count(c->checkpoint), sizeof *c->expected);
        if (!c->expected) return FR_ERROR_MEMORY;
        fr_source_settle(&c->config, c->checkpoint, &mtp, mtp_is_lost(c) ? NULL : &c->notices);
        c->mtp_left_out = mtp.left_out;
        if (!c->headers_only) fr_source_compare_all(&c->config, c->checkpoint, &mtp, &c->notices);
        FR_TRY(fr_schema_each(&c->config, check_against_schema, c));
        report_unexpected(c);
        fr_schema_head_is_tied(&c->config, c->checkpoint, &c->notices);
    }
    FR_TRY(fr_tokenizer_notices(c->dir, &c->notices, NULL));
    fr_notices_tell(&c->notices, c->notice, c->user);
    return c->headers_only ? FR_OK : scan_all(c, error);
}

static fr_status check(checker *c, uint64_t *num_problems, fr_error *error) {
    fr_error own = {0}, no_config;
    fr_status status = fr_config_load(c->dir, &c->config, &c->notices, &no_config);
    c->has_config = status == FR_OK;
    if (status != FR_ERROR_MEMORY)
        status =
            fr_source_survey(c->dir, c->has_config ? &c->config : NULL, report_opening, c, &c->checkpoint, &c->notices, &own);
    if (status == FR_OK) {
        status = check_all(c, &no_config, error);
        if (status == FR_ERROR_MEMORY) fr_fail_at(error, status, c->dir, "no memory for its check");
        if (status == FR_INTERRUPTED) fr_fail_at(error, status, c->dir, "the check was interrupted");
    } else if (status == FR_ERROR_FORMAT) {
        /* the index cannot be read, so nothing else can be found; that is the one problem to report */
        complain(c, "", "model.safetensors.index.json", "%s", own.message);
        status = FR_OK;
    } else if (error) {
        *error = own.status ? own : no_config;
    }
    if (num_problems) *num_problems = c->problems;
    for (size_t i = 0; i < c->num_known; i++) fr_free(c->known[i]);
    fr_free(c->known);
    fr_free(c->expected);
    fr_checkpoint_destroy(c->checkpoint);
    return status;
}

fr_status fr_check(const char *dir, int threads, fr_problem_fn report, fr_notice_fn notice, void *user, fr_progress_fn progress,
                   void *progress_user, uint64_t *num_problems, fr_error *error) {
    checker c = {.dir = dir,
                 .threads = threads > 0 ? threads : fr_default_threads(),
                 .report = report,
                 .notice = notice,
                 .user = user,
                 .progress = progress,
                 .progress_user = progress_user};
    return check(&c, num_problems, error);
}

fr_status fr_check_headers(const char *dir, fr_problem_fn report, fr_notice_fn notice, void *user, uint64_t *num_problems,
                           fr_error *error) {
    checker c = {.dir = dir, .headers_only = true, .report = report, .notice = notice, .user = user};
    return check(&c, num_problems, error);
}
