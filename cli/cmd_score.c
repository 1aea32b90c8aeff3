#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/npy.h"
#include "cli/output.h"
#include "cli/prompt.h"
#include "cli/ranks.h"

enum { FILE_LOGITS, FILE_HIDDEN, FILE_EXPERTS, FILE_MTP_LOGITS, NUM_FILES };

typedef struct scoring {
    const fr_cli_options *options;
    fr_cli_runtime runtime;
    fr_cli_prompt prompt;
    fr_cli_progress progress;
    fr_session *session;
    double *logprobs; /* [count - 1]: log p of token i+1 given 0..i */
    size_t rows;      /* positions evaluated so far */
    fr_npy files[NUM_FILES];
    fr_error error; /* of a write inside the callback */
} scoring;

static double logprob(const float *logits, int vocab, int32_t token) {
    double largest = -INFINITY, sum = 0;
    for (int i = 0; i < vocab; i++)
        if (logits[i] > largest) largest = logits[i];
    for (int i = 0; i < vocab; i++) sum += exp((double)logits[i] - largest);
    return (double)logits[token] - largest - log(sum);
}

/* An fr_score_fn: computes the log-probabilities of a chunk and writes its rows to the files. */
static bool take_batch(void *user, const fr_score_batch *batch) {
    scoring *run = user;
    const fr_model_info *info = &run->runtime.info;
    fr_status status = FR_OK;
    for (size_t r = 0; r < batch->rows && batch->first + r + 1 < run->prompt.count; r++) {
        size_t i = batch->first + r;
        run->logprobs[i] = logprob(batch->logits + r * (size_t)info->vocab_size, info->vocab_size, run->prompt.tokens[i + 1]);
    }
    run->rows = batch->first + batch->rows;
    fr_npy *files = run->files;
    if (files[FILE_LOGITS].file.fd >= 0)
        status = fr_npy_write(&files[FILE_LOGITS], 0, batch->first, batch->rows, batch->logits, &run->error);
    if (status == FR_OK && files[FILE_HIDDEN].file.fd >= 0)
        status = fr_npy_write(&files[FILE_HIDDEN], 0, batch->first, batch->rows, batch->hidden, &run->error);
    if (status == FR_OK && files[FILE_MTP_LOGITS].file.fd >= 0)
        status = fr_npy_write(&files[FILE_MTP_LOGITS], 0, batch->first, batch->mtp_rows, batch->mtp_logits, &run->error);
    size_t plane = batch->rows * (size_t)info->num_experts_per_tok;
    for (int layer = 0; status == FR_OK && files[FILE_EXPERTS].file.fd >= 0 && layer < info->num_moe_layers; layer++)
        status = fr_npy_write(&files[FILE_EXPERTS], (uint64_t)layer, batch->first, batch->rows,
                              batch->experts + (size_t)layer * plane, &run->error);
    return fr_cli_progress_update(&run->progress, "score", run->rows, run->prompt.count) && status == FR_OK;
}

static int open_files(scoring *run) {
    const fr_cli_options *options = run->options;
    const fr_model_info *info = &run->runtime.info;
    uint64_t rows = run->prompt.count, vocab = (uint64_t)info->vocab_size;
    const struct {
        const char *path;
        fr_npy_type type;
        int rank;
        uint64_t shape[3];
    } wanted[NUM_FILES] = {
        [FILE_LOGITS] = {options->logits, FR_NPY_FLOAT32, 2, {rows, vocab}},
        [FILE_HIDDEN] = {options->hidden, FR_NPY_FLOAT32, 2, {rows, (uint64_t)info->hidden_size}},
        [FILE_EXPERTS] = {options->experts,
                          FR_NPY_INT32,
                          3,
                          {(uint64_t)info->num_moe_layers, rows, (uint64_t)info->num_experts_per_tok}},
        [FILE_MTP_LOGITS] = {options->mtp_logits, FR_NPY_FLOAT32, 2, {rows - 1, vocab}},
    };
    for (int i = 0; i < NUM_FILES; i++)
        for (int j = 0; j < i; j++)
            if (wanted[i].path && wanted[j].path && strcmp(wanted[i].path, wanted[j].path) == 0)
                return fr_cli_error(FR_EXIT_USAGE, "%s: two results cannot go to one file", wanted[i].path);
    bool failed = false;
    for (int i = 0; i < NUM_FILES && !failed && fr_cli_is_first(); i++)
        failed = wanted[i].path && fr_npy_create(&run->files[i], wanted[i].path, wanted[i].type, wanted[i].shape, wanted[i].rank,
                                                 &run->error) != FR_OK;
    return fr_cli_share(failed) ? fr_cli_failure(&run->error) : 0;
}

/* ctx 0: the length of the text, which is known only after the model was opened. */
static fr_session_options session_options(const fr_cli_options *options) {
    return (fr_session_options){
        .ctx = options->ctx,
        .kv = (fr_kv)options->kv,
        .drafting = options->mtp_logits ? FR_DRAFTING_ON : FR_DRAFTING_OFF,
        .mtp_hidden = (fr_hidden_state)options->mtp_hidden,
        .check_finite = options->check_finite,
    };
}

static int open_model(scoring *run) {
    fr_session_options wanted = session_options(run->options);
    return fr_cli_runtime_open_for(&run->runtime, run->options, &wanted);
}

static int open_session(scoring *run) {
    const fr_cli_options *options = run->options;
    fr_error error = {0};
    fr_session_options wanted = session_options(options);
    if (!wanted.ctx) wanted.ctx = (int)run->prompt.count;
    if (options->mtp_logits && !run->runtime.info.has_mtp)
        return fr_cli_error(FR_EXIT_FAILED, "--mtp-logits: %s has no MTP module", run->runtime.dir);
    if (fr_session_create(run->runtime.model, &wanted, &run->session, &error) == FR_OK) return 0;
    run->session = NULL;
    return fr_cli_failure(&error);
}

/* Evaluates the text. Returns 0 or an exit code, printed; 130 with what was evaluated so far. */
static int score(scoring *run) {
    fr_error error = {0};
    const fr_cli_options *options = run->options;
    unsigned what = FR_SCORE_LOGITS;
    if (options->hidden) what |= FR_SCORE_HIDDEN;
    if (options->experts) what |= FR_SCORE_EXPERTS;
    if (options->mtp_logits) what |= FR_SCORE_MTP_LOGITS;
    fr_status status = fr_session_score(run->session, run->prompt.tokens, run->prompt.count, what, take_batch, run, &error);
    fr_cli_progress_clear(&run->progress);
    if (run->error.status != FR_OK) return fr_cli_failure(&run->error);
    if (status == FR_INTERRUPTED) return FR_EXIT_INTERRUPTED;
    if (status != FR_OK) return fr_cli_failure(&error);
    for (size_t i = 0; i + 1 < run->prompt.count; i++) {
        if (isfinite(run->logprobs[i])) continue;
        fr_cli_error(FR_EXIT_FAILED, "score: the log-probability of token %zu is no number: weights are damaged", i + 1);
        fr_cli_hint("forerun check lists what is wrong with a checkpoint");
        return FR_EXIT_FAILED;
    }
    for (int i = 0; i < NUM_FILES; i++)
        if (run->files[i].file.fd >= 0 && fr_npy_close(&run->files[i], &error) != FR_OK) return fr_cli_failure(&error);
    return 0;
}

/* Bytes of text that were predicted: all but those of the first token, which is given. */
static size_t predicted_bytes(const scoring *run) {
    size_t first = 0, length = run->prompt.text_length;
    int32_t token = run->prompt.tokens[0];
    if (!fr_token_is_special(run->runtime.model, token)) fr_token_bytes(run->runtime.model, token, &first);
    return first < length ? length - first : 0;
}

static void print_result(const scoring *run, bool interrupted) {
    double sum = 0;
    size_t tokens = run->rows < run->prompt.count ? run->rows : run->prompt.count;
    size_t predicted = tokens > 0 ? tokens - 1 : 0;
    for (size_t i = 0; i < predicted; i++) sum += run->logprobs[i];
    double perplexity = predicted ? exp(-sum / (double)predicted) : NAN;
    size_t bytes = run->prompt.is_text && !interrupted ? predicted_bytes(run) : 0;
    double bits_per_byte = bytes && predicted ? -sum / log(2.0) / (double)bytes : NAN;
    if (!run->options->json) {
        printf("tokens         %zu\n", tokens);
        if (isfinite(perplexity)) printf("perplexity     %.6g\n", perplexity);
        if (isfinite(bits_per_byte)) printf("bits per byte  %.6g\n", bits_per_byte);
        return;
    }
    fr_json_builder builder, *b = &builder;
    fr_cli_json_begin(b);
    fr_json_add_ids(b, b->root, "tokens", run->prompt.tokens, tokens);
    fr_json_add_reals(b, b->root, "logprobs", run->logprobs, predicted);
    fr_json_add_number(b, b->root, "perplexity", perplexity);
    fr_json_add_number(b, b->root, "bits_per_byte", bits_per_byte);
    fr_json_add_bool(b, b->root, "interrupted", interrupted);
    fr_cli_add_memory(b, b->root, &run->runtime.info, run->session);
    fr_cli_json_print(b);
}

int fr_cmd_score(const fr_cli_options *options) {
    scoring run;
    memset(&run, 0, sizeof run);
    run.options = options;
    for (int i = 0; i < NUM_FILES; i++) run.files[i].file.fd = -1;
    int code = fr_cli_prompt_check(options, false);
    if (code) return code;
    fr_cli_progress_init(&run.progress);
    code = open_model(&run);
    if (!code) code = fr_cli_prompt_read(&run.prompt, run.runtime.model, options, false);
    if (!code) code = open_session(&run);
    if (!code) code = open_files(&run);
    if (!code) {
        run.logprobs = fr_cli_alloc(run.prompt.count, sizeof *run.logprobs);
        fr_cli_interrupt_defer();
        code = score(&run);
        if (code == 0 || code == FR_EXIT_INTERRUPTED) {
            print_result(&run, code != 0);
            code = fr_cli_flush(code);
        }
    }
    for (int i = 0; i < NUM_FILES; i++) fr_npy_discard(&run.files[i]); /* those that are not whole and closed */
    fr_session_destroy(run.session);
    fr_cli_prompt_free(&run.prompt);
    fr_cli_runtime_close(&run.runtime);
    free(run.logprobs);
    return code;
}
