/* Converts a checkpoint's linears: from BF16 or F32 to E4M3 with one scale a 128x128 block, or back to BF16. */
#include <dirent.h>
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "forerun_checkpoint.h"
#include "model/convert/config_edit.h"
#include "model/schema.h"
#include "model/source.h"

#define BLOCK FR_BLOCK

/* A tensor to write. Converted tensors are linears: rank 2. */
typedef struct job {
    const fr_tensor *source;
    const fr_tensor *scale; /* of an E4M3 source that becomes BF16 */
    bool convert;
} job;

typedef struct quantizer {
    const fr_quantize_options *options;
    const char *from;
    bool to_fp8;
    fr_config config;
    fr_notices notices;
    fr_mtp_files mtp;
    fr_checkpoint *checkpoint;
    bool *used; /* [tensors of the checkpoint] written, or replaced by what is written */
    job *jobs;  /* [num_jobs], at most one a tensor of the checkpoint */
    size_t num_jobs;
    uint64_t converted;
    float worst; /* largest relative error so far */
    fr_writer *writer;
    fr_error *error;
} quantizer;

/* ---- Blocks ---- */

/* The conversion of one tensor, shared by threads. Each thread writes scales and errors of its own rows of blocks. */
typedef struct conversion {
    const fr_tensor *source;
    const char *source_scales; /* F32, maybe unaligned; NULL: the source is not E4M3 */
    int64_t out, in, block_cols;
    float *scales; /* [block rows, block_cols]; NULL: the target is BF16 */
    float *errors; /* [block rows] largest relative error; NaN: values that are not finite */
} conversion;

typedef struct tile {
    int64_t row, col, rows, cols;
    float values[BLOCK * BLOCK]; /* [rows, cols] */
} tile;

static void load_tile(const conversion *c, tile *t) {
    size_t width = fr_dtype_size(c->source->dtype);
    float scale = 1;
    if (c->source_scales) memcpy(&scale, c->source_scales + 4 * (t->row / BLOCK * c->block_cols + t->col / BLOCK), sizeof scale);
    for (int64_t i = 0; i < t->rows; i++) {
        const uint8_t *from = (const uint8_t *)c->source->data + (size_t)((t->row + i) * c->in + t->col) * width;
        float *to = t->values + i * t->cols;
        if (c->source->dtype == FR_F32) {
            memcpy(to, from, (size_t)t->cols * sizeof *to);
        } else if (c->source->dtype == FR_BF16) {
            for (int64_t j = 0; j < t->cols; j++) {
                uint16_t bits;
                memcpy(&bits, from + 2 * j, sizeof bits);
                to[j] = fr_bf16_f32(bits);
            }
        } else {
            for (int64_t j = 0; j < t->cols; j++) to[j] = fr_e4m3_f32(from[j]) * scale;
        }
    }
}

/* The largest magnitude; not finite if any value is not. */
static float largest(const tile *t) {
    float most = 0;
    for (int64_t i = 0; i < t->rows * t->cols; i++) {
        float magnitude = fabsf(t->values[i]);
        if (!(magnitude <= most)) most = magnitude;
        if (!(magnitude <= FLT_MAX)) return magnitude;
    }
    return most;
}

/* Writes the tile in the target's type into `out`, which holds whole rows from t->row on; scale as fr_e4m3_scale
 * gives it. Returns the largest |w - w'|. */
static float store_tile(const conversion *c, const tile *t, float scale, uint8_t *out) {
    float most = 0;
    for (int64_t i = 0; i < t->rows; i++) {
        const float *from = t->values + i * t->cols;
        uint8_t *to = out + (size_t)(i * c->in + t->col) * (c->scales ? 1 : 2);
        for (int64_t j = 0; j < t->cols; j++) {
            float back;
            if (c->scales) {
                to[j] = fr_f32_e4m3(from[j] / scale);
                back = fr_e4m3_f32(to[j]) * scale;
            } else {
                uint16_t bits = fr_f32_bf16(from[j]);
                memcpy(to + 2 * j, &bits, sizeof bits);
                back = fr_bf16_f32(bits);
            }
            float error = fabsf(from[j] - back);
            if (!(error <= most)) most = error;
        }
    }
    return most;
}

/* Converts one block and returns its relative error, which is not finite if a value is not. */
static float convert_tile(const conversion *c, tile *t, uint8_t *out) {
    load_tile(c, t);
    float most = largest(t);
    if (!(most <= FLT_MAX)) return NAN;
    float scale = fr_e4m3_scale(most);
    if (c->scales) c->scales[t->row / BLOCK * c->block_cols + t->col / BLOCK] = scale;
    float error = store_tile(c, t, scale, out);
    return most > 0 ? error / most : 0;
}

/* A piece is rows of blocks: [bytes / row bytes, in]. */
static void fill_blocks(void *user, uint64_t offset, size_t bytes, void *out) {
    const conversion *c = user;
    size_t row_bytes = (size_t)c->in * (c->scales ? 1 : 2);
    int64_t begin = (int64_t)(offset / row_bytes), end = begin + (int64_t)(bytes / row_bytes);
    tile t;
    for (t.row = begin; t.row < end; t.row += BLOCK) {
        float worst = 0;
        t.rows = end - t.row < BLOCK ? end - t.row : BLOCK;
        for (t.col = 0; t.col < c->in; t.col += BLOCK) {
            t.cols = c->in - t.col < BLOCK ? c->in - t.col : BLOCK;
            float error = convert_tile(c, &t, (uint8_t *)out + (size_t)(t.row - begin) * row_bytes);
            if (!(error <= worst)) worst = error;
            if (!(worst <= FLT_MAX)) break;
        }
        c->errors[t.row / BLOCK] = worst;
    }
}

/* ---- Tensors ---- */

/* The error for values that are not finite in the row of blocks that begins at `row`. */
static fr_status fail_at_rows(const quantizer *q, const conversion *c, int64_t row) {
    const char *file = fr_checkpoint_file(q->checkpoint, c->source->file);
    return fr_fail_at(q->error, FR_ERROR_FORMAT, fr_place_of("%.200s: tensor %.200s", file, c->source->name).text,
                      "values that are not finite in rows %" PRId64 " to %" PRId64, row,
                      row + BLOCK < c->out ? row + BLOCK - 1 : c->out - 1);
}

static fr_status convert(quantizer *q, const job *j) {
    const fr_tensor *source = j->source;
    int64_t rows = (source->shape[0] + BLOCK - 1) / BLOCK;
    conversion c = {.source = source,
                    .source_scales = j->scale ? j->scale->data : NULL,
                    .out = source->shape[0],
                    .in = source->shape[1],
                    .block_cols = (source->shape[1] + BLOCK - 1) / BLOCK};
    fr_status status = FR_OK;
    c.errors = fr_alloc_zeroed((size_t)rows, sizeof *c.errors);
    if (q->to_fp8) c.scales = fr_alloc_zeroed((size_t)(rows * c.block_cols), sizeof *c.scales);
    if (!c.errors || (q->to_fp8 && !c.scales))
        FR_CHECK(
            fr_fail_at(q->error, FR_ERROR_MEMORY, fr_place_of("tensor %.200s", source->name).text, "no memory to convert it"));
    size_t unit = (size_t)c.in * BLOCK * (q->to_fp8 ? 1 : 2);
    FR_CHECK(fr_writer_fill(q->writer, unit, fill_blocks, &c, q->error));
    for (int64_t i = 0; i < rows; i++) {
        if (!(c.errors[i] <= FLT_MAX)) FR_CHECK(fail_at_rows(q, &c, i * BLOCK));
        if (c.errors[i] > q->worst) q->worst = c.errors[i];
    }
    if (q->to_fp8) status = fr_writer_put(q->writer, c.scales, q->error);
done:
    fr_free(c.scales);
    fr_free(c.errors);
    return status;
}

/* Bytes of a tensor that stays what it is. They are not written from the mapping: what cannot be read there would be taken for an
 * error of the output. */
static void fill_copy(void *user, uint64_t offset, size_t bytes, void *out) {
    const fr_tensor *source = user;
    memcpy(out, (const char *)source->data + offset, bytes);
}

static fr_status copy(quantizer *q, const fr_tensor *source) {
    return fr_writer_fill(q->writer, fr_dtype_size(source->dtype), fill_copy, (void *)source, q->error);
}

static void mark(quantizer *q, const fr_tensor *tensor) {
    q->used[tensor - fr_checkpoint_at(q->checkpoint, 0)] = true;
}

static fr_status add_copy(quantizer *q, const fr_tensor *source, bool beside_last) {
    mark(q, source);
    q->jobs[q->num_jobs++] = (job){.source = source};
    return fr_writer_add(q->writer, source->name, source->dtype, source->rank, source->shape, beside_last, q->error);
}

static fr_status add_linear(quantizer *q, const fr_schema_tensor *t, const fr_tensor *source) {
    char name[256];
    int64_t shape[2];
    const fr_tensor *scale = NULL;
    if (!fr_schema_scale(t, name, sizeof name, shape))
        return fr_fail_at(q->error, FR_ERROR_FORMAT, fr_place_of("tensor %.200s", t->name).text, "its name is too long");
    if (source->dtype == FR_F8_E4M3) FR_TRY(fr_checkpoint_get(q->checkpoint, name, 1u << FR_F32, 2, shape, &scale, q->error));
    if ((source->dtype == FR_F8_E4M3) == q->to_fp8) {
        FR_TRY(add_copy(q, source, false));
        return scale ? add_copy(q, scale, true) : FR_OK;
    }
    /* scales that an earlier conversion left behind are not copied */
    const fr_tensor *stale = scale ? scale : fr_checkpoint_find(q->checkpoint, name);
    if (stale) mark(q, stale);
    mark(q, source);
    q->converted++;
    q->jobs[q->num_jobs++] = (job){.source = source, .scale = scale, .convert = true};
    FR_TRY(fr_writer_add(q->writer, t->name, q->to_fp8 ? FR_F8_E4M3 : FR_BF16, 2, t->shape, false, q->error));
    return q->to_fp8 ? fr_writer_add(q->writer, name, FR_F32, 2, shape, true, q->error) : FR_OK;
}

static fr_status announce(void *user, const fr_schema_tensor *t) {
    quantizer *q = user;
    const fr_tensor *source;
    if (t->mtp && !q->mtp.present) return FR_OK;
    if (t->optional && !fr_checkpoint_find(q->checkpoint, t->name)) return FR_OK;
    FR_TRY(fr_checkpoint_get(q->checkpoint, t->name, fr_schema_dtypes(t->row->kind), t->rank, t->shape, &source, q->error));
    return t->row->kind == FR_SCHEMA_LINEAR ? add_linear(q, t, source) : add_copy(q, source, false);
}

/* First the tensors of the schema, in its order, then all others. */
static fr_status announce_all(quantizer *q) {
    size_t count = fr_checkpoint_count(q->checkpoint);
    q->used = fr_alloc_zeroed(count, sizeof *q->used);
    q->jobs = fr_alloc_zeroed(count, sizeof *q->jobs);
    if (!q->used || !q->jobs) return fr_fail_at(q->error, FR_ERROR_MEMORY, q->from, "no memory for %zu tensors", count);
    FR_TRY(fr_schema_each(&q->config, announce, q));
    for (size_t i = 0; i < count; i++)
        if (!q->used[i]) FR_TRY(add_copy(q, fr_checkpoint_at(q->checkpoint, i), false));
    if (q->converted) return FR_OK;
    return fr_fail_at(q->error, FR_ERROR_ARGUMENT, q->from, "there is nothing to convert: its linears are %s",
                      q->to_fp8 ? "FP8 already" : "not FP8");
}

static fr_status write_tensors(quantizer *q) {
    const fr_quantize_options *o = q->options;
    for (size_t i = 0; i < q->num_jobs; i++) {
        if (o->progress && !o->progress(o->user, "converting tensors", i, q->num_jobs))
            return fr_fail_at(q->error, FR_INTERRUPTED, q->from, "converting it was interrupted");
        const job *j = &q->jobs[i];
        FR_TRY(j->convert ? convert(q, j) : copy(q, j->source));
        FR_TRY(fr_checkpoint_still_whole(q->checkpoint, q->error));
    }
    return FR_OK;
}

/* ---- Files beside the weights ---- */

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

/* Hidden files, weights of any format and config.json are not copied. */
static bool is_copied(const char *name) {
    static const char *const ends[] = {".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf"};
    if (name[0] == '.' || strcmp(name, "config.json") == 0) return false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i])) return false;
    return true;
}

static fr_status copy_files(quantizer *q) {
    fr_status status = FR_OK;
    struct stat info;
    DIR *list = opendir(q->from);
    if (!list) return fr_fail_at(q->error, FR_ERROR_IO, q->from, "%s", strerror(errno));
    for (struct dirent *item; status == FR_OK && (item = readdir(list));)
        if (is_copied(item->d_name) && fstatat(dirfd(list), item->d_name, &info, 0) == 0 && S_ISREG(info.st_mode))
            status = fr_writer_copy(q->writer, q->from, item->d_name, q->error);
    closedir(list);
    return status;
}

static fr_status write_config(quantizer *q) {
    cJSON *json = NULL;
    FR_TRY(fr_config_edit_load(q->from, &json, q->error));
    fr_status status = fr_config_edit_fp8(json, q->to_fp8, q->error);
    if (status == FR_OK) status = fr_config_edit_write(json, q->writer, q->error);
    cJSON_Delete(json);
    return status;
}

/* ---- All of it ---- */

static fr_status refuse_same(const char *from, const char *dir, fr_error *error) {
    struct stat a, b;
    if (stat(from, &a) != 0 || stat(dir, &b) != 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino) return FR_OK;
    return fr_fail_at(error, FR_ERROR_ARGUMENT, dir, "is the checkpoint that is to be read");
}

static fr_status quantize(quantizer *q, const char *dir, fr_writer_totals *totals) {
    const fr_quantize_options *o = q->options;
    fr_writer_options options = {.shard_bytes = o->shard_bytes, .force = o->force, .threads = o->threads};
    FR_TRY(fr_config_load(q->from, &q->config, &q->notices, q->error));
    FR_TRY(fr_source_open(q->from, &q->config, &q->checkpoint, &q->notices, q->error));
    fr_source_settle(&q->config, q->checkpoint, &q->mtp, &q->notices);
    FR_TRY(refuse_same(q->from, dir, q->error));
    fr_notices_tell(&q->notices, o->notice, o->user);
    FR_TRY(fr_writer_create(dir, &options, &q->writer, q->error));
    FR_TRY(announce_all(q));
    FR_TRY(fr_writer_start(q->writer, q->error));
    FR_TRY(write_config(q));
    FR_TRY(copy_files(q));
    FR_TRY(write_tensors(q));
    return fr_writer_finish(q->writer, totals, q->error);
}

fr_status fr_quantize(const char *from, const char *dir, const fr_quantize_options *options, fr_written *out, fr_error *error) {
    static const fr_quantize_options defaults;
    quantizer q = {.options = options ? options : &defaults, .from = from, .error = error};
    fr_writer_totals totals;
    q.to_fp8 = q.options->to != FR_PRECISION_BF16;
    fr_status status = quantize(&q, dir, &totals);
    if (status == FR_OK && out)
        *out = (fr_written){.tensors = totals.tensors,
                            .tensor_bytes = totals.tensor_bytes,
                            .files = totals.shards,
                            .apparent_bytes = totals.shard_bytes,
                            .tensors_converted = q.converted,
                            .max_relative_error = q.worst};
    fr_writer_destroy(q.writer);
    fr_checkpoint_destroy(q.checkpoint);
    fr_free(q.jobs);
    fr_free(q.used);
    return status;
}
