#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "core/text_size.h"
#include "forerun_study.h"
#include "study/speculation.h"

static const struct {
    const char *word;
    unsigned bit;
} parts[] = {
    {"linear", FR_BENCH_LINEAR}, {"prefill", FR_BENCH_PREFILL}, {"passes", FR_BENCH_PASSES},
    {"decode", FR_BENCH_DECODE}, {"draft", FR_BENCH_DRAFT},     {"context", FR_BENCH_CONTEXT},
};
enum { NUM_PARTS = sizeof parts / sizeof parts[0] };

/* The parts that --only names. Returns 0, or FR_EXIT_USAGE, printed. */
static int parse_only(const char *text, unsigned *what) {
    *what = 0;
    for (const char *word = text; word; word = strchr(word, ',') ? strchr(word, ',') + 1 : NULL) {
        size_t length = strcspn(word, ",");
        int i = 0;
        while (i < NUM_PARTS && (strlen(parts[i].word) != length || strncmp(word, parts[i].word, length) != 0)) i++;
        if (i == NUM_PARTS) {
            fr_cli_error(FR_EXIT_USAGE, "--only: there is no part '%.*s'", (int)(length < 40 ? length : 40), word);
            fr_cli_hint("the parts are linear, prefill, passes, decode, draft and context, with commas between them");
            return FR_EXIT_USAGE;
        }
        *what |= parts[i].bit;
    }
    return 0;
}

static int check_rows(const fr_cli_ids *rows) {
    for (size_t i = 0; i < rows->count; i++)
        if (rows->ids[i] < 1 || rows->ids[i] > FR_BENCH_MOST_ROWS)
            return fr_cli_error(FR_EXIT_USAGE, "--rows: %" PRId32 " is not a number of rows from 1 to %d", rows->ids[i],
                                FR_BENCH_MOST_ROWS);
    return 0;
}

/* ---- For people -------------------------------------------------------------------------------------------- */

enum { PERCENT_BYTES = 16 };
/* "75 %"; "-" for a share of an unknown limit. Writes into `text`, PERCENT_BYTES of it, and returns it. */
static const char *percent(double share, char *text) {
    snprintf(text, PERCENT_BYTES, share > 0 ? "%.0f %%" : "-", 100 * share);
    return text;
}
#define PERCENT(share) percent((share), (char[PERCENT_BYTES]){0})

static void print_machine(const fr_bench_result *r) {
    const fr_figure *read = &r->read_bandwidth, *peak = &r->peak;
    printf("%d %s, last-level cache %s\n", r->threads, r->threads == 1 ? "thread" : "threads",
           r->cache_bytes ? FR_TEXT_SIZE(r->cache_bytes) : "unknown");
    printf("few rows by %s, many by %s\n", r->isa, r->prefill_path);
    printf("read     %8.1f GB/s      (%.1f to %.1f; %s, %d %s a thread)\n", 1e-9 * read->median, 1e-9 * read->p10,
           1e-9 * read->p90, FR_TEXT_SIZE(r->read_buffer_bytes), r->read_streams, r->read_streams == 1 ? "stream" : "streams");
    if (peak->samples)
        printf("peak     %8.0f GFLOP/s   (%.0f to %.0f; %s)\n", 1e-9 * peak->median, 1e-9 * peak->p10, 1e-9 * peak->p90,
               r->peak_name);
    if (r->barrier.samples)
        printf("barrier  %8.2f us        (%.2f to %.2f)\n", 1e6 * r->barrier.median, 1e6 * r->barrier.p10, 1e6 * r->barrier.p90);
    if (r->exchange.samples)
        printf("exchange %8.2f us        (%.2f to %.2f; a row of %s between %d ranks; all else is rank 0's)\n",
               1e6 * r->exchange.median, 1e6 * r->exchange.p10, 1e6 * r->exchange.p90, FR_TEXT_SIZE(r->exchange_bytes), r->ranks);
}

static void print_disk(const fr_bench_result *r) {
    if (r->disk.samples == 0) return;
    printf("disk     %8.2f GB/s      (%.2f to %.2f; experts of %s in order, %d at once, by %s)\n", 1e-9 * r->disk.median,
           1e-9 * r->disk.p10, 1e-9 * r->disk.p90, FR_TEXT_SIZE(r->expert_bytes), r->disk_at_once, r->reader);
}

static bool same_matrix(const fr_bench_linear *a, const fr_bench_linear *b) {
    return strcmp(a->name, b->name) == 0;
}

/* A line for each kind of matrix, a column for each number of rows, of prefill or of decode; entries are in the order of rows,
 * then kinds. */
static void print_linears(const fr_bench_result *r, bool prefill) {
    enum { MOST_COLUMNS = 16 };
    int columns[MOST_COLUMNS], count = 0;
    bool cached = false;
    for (size_t i = 0; i < r->num_linear; i++) {
        int j = 0;
        if ((r->linear[i].rows > FR_MAX_DEPTH + 1) != prefill) continue;
        while (j < count && columns[j] != r->linear[i].rows) j++;
        if (j == count && count < MOST_COLUMNS) columns[count++] = r->linear[i].rows;
    }
    if (count == 0) return;
    printf(
        prefill
            ? "\nlinear, many rows: GFLOP/s and share of the peak (of BF16 products at most 50 %% where activations stay exact)\n"
            : "\nlinear, few rows: GB/s of weights and share of read\n");
    printf("  %-26s %-8s %15s", "", "", "out x in");
    for (int j = 0; j < count; j++) printf("  %7d row%s", columns[j], columns[j] == 1 ? " " : "s");
    printf("\n");
    for (size_t i = 0; i < r->num_linear; i++) {
        const fr_bench_linear *first = &r->linear[i];
        if (first->rows != columns[0]) continue;
        printf("  %-26s %-8s %7d x %5d", first->name, first->dtype, first->out, first->in);
        for (int j = 0; j < count; j++) {
            const fr_bench_linear *entry = NULL;
            for (size_t k = 0; k < r->num_linear; k++)
                if (r->linear[k].rows == columns[j] && same_matrix(first, &r->linear[k])) entry = &r->linear[k];
            if (!entry)
                printf("  %12s", "");
            else if (prefill)
                printf("  %6.0f %5s", 1e-9 * entry->flops_per_s.median, PERCENT(entry->of_peak));
            else
                printf("  %6.1f %5s", 1e-9 * entry->bytes_per_s.median, PERCENT(entry->of_bandwidth));
        }
        cached |= first->cached;
        printf("\n");
    }
    if (cached && !prefill) printf("  these weights fit into the cache: this is not the speed of memory\n");
}

static void print_passes(const fr_bench_result *r) {
    if (r->num_passes == 0) return;
    printf("\npasses after %d tokens\n  %4s %10s %21s %13s %8s %8s %7s %9s\n", r->ctx, "rows", "ms", "p10 to p90", "over one row",
           "experts", "GB/s", "of read", "barriers");
    for (size_t i = 0; i < r->num_passes; i++) {
        const fr_bench_pass *p = &r->passes[i];
        printf("  %4d %10.3f %9.3f to %8.3f %13.3f %8.1f %8.1f %7s %9s\n", p->rows, p->ms.median, p->ms.p10, p->ms.p90,
               p->over_one_row, p->unique_experts, 1e-6 * (double)p->bytes / p->ms.median, PERCENT(p->of_bandwidth),
               PERCENT(p->in_barriers));
    }
}

static void print_experts(const fr_bench_experts *e) {
    const fr_stats *s = &e->stats;
    printf("  experts: %.1f %% were cached; %s read a token, at %.2f GB/s, %s of disk, in %.1f %% of its time; waited for them "
           "%.1f %%\n",
           100.0 * (double)s->expert_hits / (double)(s->expert_hits + s->expert_misses),
           FR_TEXT_SIZE((uint64_t)e->bytes_per_token), s->disk_busy_s > 0 ? 1e-9 * (double)s->disk_bytes / s->disk_busy_s : 0.0,
           PERCENT(e->of_disk), 100 * e->reading, 100 * e->stalled);
}

static void print_rest(const fr_bench_result *r) {
    if (r->draft.ms.samples) {
        const fr_bench_draft *d = &r->draft;
        printf("\ndraft    %8.3f ms  (%.3f to %.3f)", d->ms.median, d->ms.p10, d->ms.p90);
        if (d->over_one_row > 0) printf(", %.3f of a pass of one row", d->over_one_row);
        printf("; reads %s, %s of read\n", FR_TEXT_SIZE(d->bytes), PERCENT(d->of_bandwidth));
    }
    if (r->decode.tokens_per_s.samples) {
        const fr_bench_decode *d = &r->decode;
        printf("\ndecode   %8.2f tokens/s without drafts (%.2f to %.2f); reads %s a token, %s of read%s\n",
               d->tokens_per_s.median, d->tokens_per_s.p10, d->tokens_per_s.p90, FR_TEXT_SIZE(d->bytes_per_token),
               PERCENT(d->of_bandwidth), d->cached ? ", which fit into the cache" : "");
        if (d->experts.stats.expert_hits + d->experts.stats.expert_misses) print_experts(&d->experts);
        printf("  of a token: threads wait for each other %.1f %%, attention %.1f %%, its choice by the largest logit %.1f %%\n",
               100 * d->shares.waiting, 100 * d->shares.attention, 100 * d->sampling);
    }
    if (r->num_prefill) printf("\nprefill\n  %6s %10s %23s %8s\n", "tokens", "tokens/s", "p10 to p90", "of peak");
    for (size_t i = 0; i < r->num_prefill; i++) {
        const fr_bench_prefill *p = &r->prefill[i];
        printf("  %6d %10.1f %10.1f to %9.1f %8s\n", p->tokens, p->tokens_per_s.median, p->tokens_per_s.p10, p->tokens_per_s.p90,
               PERCENT(p->of_peak));
    }
    if (r->num_contexts)
        printf("\none row by context; attention ms with its projections, shares of all threads' time without\n"
               "  %6s %10s %21s %13s %21s %10s %8s\n",
               "tokens", "ms", "p10 to p90", "attention ms", "p10 to p90", "attention", "waiting");
    for (size_t i = 0; i < r->num_contexts; i++) {
        const fr_bench_context *c = &r->contexts[i];
        printf("  %6d %10.3f %9.3f to %8.3f %13.3f %9.3f to %8.3f", c->tokens, c->ms.median, c->ms.p10, c->ms.p90,
               c->attention_ms.median, c->attention_ms.p10, c->attention_ms.p90);
        printf(" %8.1f %% %6.1f %%", 100 * c->shares.attention, 100 * c->shares.waiting);
        if (c->index_ms.samples > 0) printf("; of it the choice of positions %.3f", c->index_ms.median);
        printf("\n");
    }
}

/* ---- JSON -------------------------------------------------------------------------------------------------- */

/* A figure's median under `key`, and its spread in the same unit. */
static void add_figure(fr_json_builder *b, cJSON *to, const char *key, const fr_figure *figure) {
    char name[64];
    fr_json_add_number(b, to, key, figure->median);
    snprintf(name, sizeof name, "%s_spread", key);
    cJSON *spread = fr_json_add_object(b, to, name);
    fr_json_add_number(b, spread, "p10", figure->p10);
    fr_json_add_number(b, spread, "p90", figure->p90);
    fr_json_add_count(b, spread, "samples", (uint64_t)figure->samples);
}

/* A share of a limit, or a ratio; null when what it is relative to was not measured. */
static void add_share(fr_json_builder *b, cJSON *to, const char *key, double share) {
    if (share > 0)
        fr_json_add_number(b, to, key, share);
    else
        fr_json_add_null(b, to, key);
}

static void add_shares(fr_json_builder *b, cJSON *to, const fr_bench_shares *shares) {
    fr_json_add_number(b, to, "waiting", shares->waiting);
    fr_json_add_number(b, to, "attention", shares->attention);
}

static void add_machine(fr_json_builder *b, cJSON *document, const fr_cli_runtime *runtime, const fr_bench_result *r) {
    cJSON *part = fr_json_add_object(b, document, "model");
    fr_json_add_text(b, part, "path", runtime->dir);
    fr_json_add_count(b, part, "weight_bytes", runtime->info.weight_bytes);
    fr_json_add_bool(b, part, "mtp", r->has_mtp);
    fr_json_add_number(b, document, "load_s", runtime->load_s);
    fr_json_add_count(b, document, "threads", (uint64_t)r->threads);
    fr_json_add_text(b, document, "isa", r->isa);
    fr_json_add_text(b, document, "many_rows", r->prefill_path);
    fr_json_add_count(b, document, "cache_bytes", r->cache_bytes);
    fr_json_add_count(b, document, "read_buffer_bytes", r->read_buffer_bytes);
    fr_json_add_count(b, document, "read_streams", (uint64_t)r->read_streams);
    fr_cli_add_memory(b, document, &runtime->info, NULL);
    add_figure(b, document, "read_bandwidth_bytes_per_s", &r->read_bandwidth);
    if (r->peak.samples) {
        part = fr_json_add_object(b, document, "peak");
        fr_json_add_text(b, part, "name", r->peak_name);
        add_figure(b, part, "flops_per_s", &r->peak);
    } else {
        fr_json_add_null(b, document, "peak");
    }
    if (r->barrier.samples)
        add_figure(b, document, "barrier_s", &r->barrier);
    else
        fr_json_add_null(b, document, "barrier_s");
    fr_json_add_count(b, document, "ranks", (uint64_t)r->ranks);
    if (r->exchange.samples) {
        add_figure(b, document, "exchange_s", &r->exchange);
        fr_json_add_count(b, document, "exchange_bytes", r->exchange_bytes);
    }
    fr_json_add_count(b, document, "context", (uint64_t)r->ctx);
}

static void add_disk(fr_json_builder *b, cJSON *document, const fr_bench_result *r) {
    if (r->disk.samples == 0) {
        fr_json_add_null(b, document, "disk");
        return;
    }
    cJSON *part = fr_json_add_object(b, document, "disk");
    fr_json_add_text(b, part, "reader", r->reader);
    fr_json_add_count(b, part, "expert_bytes", r->expert_bytes);
    fr_json_add_count(b, part, "at_once", (uint64_t)r->disk_at_once);
    add_figure(b, part, "bytes_per_s", &r->disk);
}

static void add_experts(fr_json_builder *b, cJSON *decode, const fr_bench_result *r) {
    const fr_bench_experts *e = &r->decode.experts;
    cJSON *part = fr_study_add_experts(b, decode, &e->stats, r->reader);
    if (!part) return;
    fr_json_add_number(b, part, "read_bytes_per_token", e->bytes_per_token);
    fr_json_add_number(b, part, "stalled", e->stalled);
    fr_json_add_number(b, part, "reading", e->reading);
    add_share(b, part, "of_disk", e->of_disk);
}

static void add_linears(fr_json_builder *b, cJSON *array, const fr_bench_result *r) {
    for (size_t i = 0; i < r->num_linear; i++) {
        const fr_bench_linear *l = &r->linear[i];
        cJSON *item = fr_json_add_object(b, array, NULL);
        fr_json_add_text(b, item, "name", l->name);
        fr_json_add_text(b, item, "dtype", l->dtype);
        fr_json_add_count(b, item, "out", (uint64_t)l->out);
        fr_json_add_count(b, item, "in", (uint64_t)l->in);
        fr_json_add_count(b, item, "rows", (uint64_t)l->rows);
        fr_json_add_count(b, item, "matrices", (uint64_t)l->matrices);
        fr_json_add_bool(b, item, "cached", l->cached);
        add_figure(b, item, "bytes_per_s", &l->bytes_per_s);
        add_share(b, item, "of_bandwidth", l->of_bandwidth);
        add_figure(b, item, "flops_per_s", &l->flops_per_s);
        add_share(b, item, "of_peak", l->of_peak);
    }
}

static void add_passes(fr_json_builder *b, cJSON *array, const fr_bench_result *r) {
    for (size_t i = 0; i < r->num_passes; i++) {
        const fr_bench_pass *p = &r->passes[i];
        cJSON *item = fr_json_add_object(b, array, NULL);
        fr_json_add_count(b, item, "rows", (uint64_t)p->rows);
        add_figure(b, item, "ms", &p->ms);
        add_share(b, item, "over_one_row", p->over_one_row);
        fr_json_add_number(b, item, "unique_experts", p->unique_experts);
        fr_json_add_count(b, item, "bytes", p->bytes);
        add_share(b, item, "of_bandwidth", p->of_bandwidth);
        fr_json_add_count(b, item, "barriers", (uint64_t)p->barriers);
        add_share(b, item, "in_barriers", p->in_barriers);
    }
}

static void add_prefill(fr_json_builder *b, cJSON *array, const fr_bench_result *r) {
    for (size_t i = 0; i < r->num_prefill; i++) {
        const fr_bench_prefill *p = &r->prefill[i];
        cJSON *item = fr_json_add_object(b, array, NULL);
        fr_json_add_count(b, item, "tokens", (uint64_t)p->tokens);
        add_figure(b, item, "tokens_per_s", &p->tokens_per_s);
        fr_json_add_number(b, item, "flops_per_token", p->flops_per_token);
        add_share(b, item, "of_peak", p->of_peak);
    }
}

static void add_decode(fr_json_builder *b, cJSON *document, const fr_bench_result *r) {
    const fr_bench_decode *d = &r->decode;
    cJSON *part;
    if (d->tokens_per_s.samples) {
        part = fr_json_add_object(b, document, "decode");
        add_figure(b, part, "tokens_per_s", &d->tokens_per_s);
        fr_json_add_count(b, part, "bytes_per_token", d->bytes_per_token);
        add_share(b, part, "of_bandwidth", d->of_bandwidth);
        fr_json_add_bool(b, part, "cached", d->cached);
        add_share(b, part, "sampling", d->sampling);
        add_shares(b, part, &d->shares);
        add_experts(b, part, r);
    } else {
        fr_json_add_null(b, document, "decode");
    }
    if (r->draft.ms.samples) {
        part = fr_json_add_object(b, document, "draft");
        add_figure(b, part, "ms", &r->draft.ms);
        add_share(b, part, "over_one_row", r->draft.over_one_row);
        fr_json_add_count(b, part, "bytes", r->draft.bytes);
        add_share(b, part, "of_bandwidth", r->draft.of_bandwidth);
    } else {
        fr_json_add_null(b, document, "draft");
    }
}

static void print_document(const fr_cli_runtime *runtime, const fr_bench_result *r, bool interrupted) {
    fr_json_builder builder, *b = &builder;
    fr_cli_json_begin(b);
    cJSON *document = b->root, *array;
    add_machine(b, document, runtime, r);
    add_disk(b, document, r);
    fr_json_add_bool(b, document, "complete", !interrupted);
    add_linears(b, fr_json_add_array(b, document, "linear"), r);
    add_passes(b, fr_json_add_array(b, document, "passes"), r);
    add_decode(b, document, r);
    add_prefill(b, fr_json_add_array(b, document, "prefill"), r);
    array = fr_json_add_array(b, document, "contexts");
    for (size_t i = 0; i < r->num_contexts; i++) {
        cJSON *item = fr_json_add_object(b, array, NULL);
        fr_json_add_count(b, item, "tokens", (uint64_t)r->contexts[i].tokens);
        add_figure(b, item, "ms", &r->contexts[i].ms);
        add_figure(b, item, "attention_ms", &r->contexts[i].attention_ms);
        add_shares(b, item, &r->contexts[i].shares);
        if (r->contexts[i].index_ms.samples > 0) add_figure(b, item, "index_ms", &r->contexts[i].index_ms);
    }
    fr_cli_json_print(b);
}

/* ---- The command ------------------------------------------------------------------------------------------- */

int fr_cmd_bench(const fr_cli_options *options) {
    fr_cli_runtime runtime;
    fr_cli_progress progress;
    fr_error error = {0};
    fr_bench_result *result = NULL;
    fr_bench_options wanted = {.num_rows = options->rows.count,
                               .ctx = options->ctx,
                               .seconds = options->seconds,
                               .kv = (fr_kv)options->kv,
                               .seed = options->seed,
                               .progress = fr_cli_progress_update,
                               .user = &progress};
    int code = options->only ? parse_only(options->only, &wanted.what) : 0;
    if (!code) code = check_rows(&options->rows);
    fr_session_options session = {.ctx = options->ctx, .kv = (fr_kv)options->kv};
    if (!code) code = fr_cli_runtime_open_for(&runtime, options, &session);
    if (code) return code;
    int *rows = fr_cli_alloc(options->rows.count + 1, sizeof *rows);
    for (size_t i = 0; i < options->rows.count; i++) rows[i] = options->rows.ids[i];
    wanted.rows = options->rows.count ? rows : NULL;
    fr_cli_progress_init(&progress);
    fr_cli_interrupt_defer();
    fr_status status = fr_bench(runtime.model, &wanted, &result, &error);
    fr_cli_progress_clear(&progress);
    if (result) {
        if (options->json) {
            print_document(&runtime, result, status != FR_OK);
        } else {
            print_machine(result);
            print_disk(result);
            print_linears(result, false);
            print_linears(result, true);
            print_passes(result);
            print_rest(result);
        }
        code = fr_cli_flush(FR_EXIT_DONE);
    }
    if (status != FR_OK && (code == FR_EXIT_DONE || !result)) code = fr_cli_failure(&error);
    fr_bench_result_destroy(result);
    free(rows);
    fr_cli_runtime_close(&runtime);
    return code;
}
