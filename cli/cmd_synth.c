#include <stdio.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/notice.h"
#include "cli/output.h"
#include "cli/shown.h"
#include "core/text_size.h"
#include "forerun_checkpoint.h"

/* What --config or --like names; NULL, printed, when it is not exactly one of them. */
static const char *source_of(const fr_cli_options *options) {
    if (options->config && options->like) {
        fr_cli_error(FR_EXIT_USAGE, "--config, --like: only one of them can be given");
        return NULL;
    }
    const char *source = options->config ? options->config : options->like;
    if (!source) {
        fr_cli_error(FR_EXIT_USAGE, "synth: no config was given");
        fr_cli_hint("name a config.json with --config FILE, or a checkpoint that has one with --like DIR");
    }
    return source;
}

static void print_document(const fr_cli_options *options, const char *source, const fr_written *written) {
    fr_json_builder builder, *b = &builder;
    fr_cli_json_begin(b);
    fr_json_add_text(b, b->root, "config", source);
    fr_json_add_text(b, b->root, "path", options->output);
    fr_json_add_count(b, b->root, "files", written->files);
    fr_json_add_count(b, b->root, "tensors", written->tensors);
    fr_json_add_count(b, b->root, "tensor_bytes", written->tensor_bytes);
    fr_json_add_count(b, b->root, "apparent_bytes", written->apparent_bytes);
    fr_json_add_bool(b, b->root, "sparse", options->sparse);
    fr_json_add_count(b, b->root, "seed", options->seed);
    fr_cli_json_print(b);
}

int fr_cmd_synth(const fr_cli_options *options) {
    fr_error error = {0};
    fr_cli_progress progress;
    fr_written written;
    const char *source = source_of(options);
    if (!source) return FR_EXIT_USAGE;
    if (!options->output) return fr_cli_error(FR_EXIT_USAGE, "synth: --output DIR is missing");
    fr_cli_progress_init(&progress);
    fr_cli_interrupt_defer();
    fr_synth_options synth = {.layers = options->layers,
                              .experts = options->num_experts,
                              .set = options->set.texts,
                              .num_set = options->set.count,
                              .seed = options->seed,
                              .shard_bytes = options->shard_bytes,
                              .dtype = (fr_precision)options->dtype,
                              .sparse = options->sparse,
                              .no_mtp_copies = options->no_mtp_copies,
                              .expert_skew = options->expert_skew,
                              .force = options->force,
                              .tokenizer = options->tokenizer,
                              .threads = options->threads,
                              .progress = fr_cli_progress_update,
                              .notice = fr_cli_take_notice,
                              .user = &progress};
    fr_status status = fr_synth(source, options->output, &synth, &written, &error);
    fr_cli_progress_clear(&progress);
    if (status != FR_OK) return fr_cli_failure(&error);
    if (options->json)
        print_document(options, source, &written);
    else
        fr_cli_print_shown(stdout, "%s: %s tensors in %s %s, %s%s", options->output, FR_TEXT_GROUPED(written.tensors),
                           FR_TEXT_GROUPED(written.files), written.files == 1 ? "file" : "files",
                           FR_TEXT_SIZE(written.apparent_bytes), options->sparse ? ", all holes" : "");
    return fr_cli_flush(FR_EXIT_DONE);
}
