#include <stdio.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/notice.h"
#include "cli/output.h"
#include "cli/shown.h"
#include "core/text_size.h"
#include "forerun_checkpoint.h"
#include "study/words.h"

int fr_cmd_quantize(const fr_cli_options *options) {
    fr_error error = {0};
    fr_cli_progress progress;
    fr_written written;
    const char *dir = fr_cli_model_dir(options, true);
    if (!dir) return FR_EXIT_FAILED;
    if (!options->output) return fr_cli_error(FR_EXIT_USAGE, "quantize: --output DIR is missing");
    fr_cli_progress_init(&progress);
    fr_cli_interrupt_defer();
    fr_quantize_options quantize = {.to = (fr_precision)(options->to + FR_PRECISION_FP8),
                                    .shard_bytes = options->shard_bytes,
                                    .force = options->force,
                                    .threads = options->threads,
                                    .progress = fr_cli_progress_update,
                                    .notice = fr_cli_take_notice,
                                    .user = &progress};
    fr_status status = fr_quantize(dir, options->output, &quantize, &written, &error);
    fr_cli_progress_clear(&progress);
    if (status != FR_OK) return fr_cli_failure(&error);
    if (options->json) {
        fr_json_builder builder, *b = &builder;
        fr_cli_json_begin(b);
        fr_json_add_text(b, b->root, "model", dir);
        fr_json_add_text(b, b->root, "path", options->output);
        fr_json_add_text(b, b->root, "to", fr_precision_word(quantize.to));
        fr_json_add_count(b, b->root, "tensors_converted", written.tensors_converted);
        fr_json_add_number(b, b->root, "max_relative_error", written.max_relative_error);
        fr_json_add_count(b, b->root, "files", written.files);
        fr_json_add_count(b, b->root, "tensors", written.tensors);
        fr_json_add_count(b, b->root, "tensor_bytes", written.tensor_bytes);
        fr_json_add_count(b, b->root, "apparent_bytes", written.apparent_bytes);
        fr_cli_json_print(b);
    } else {
        fr_cli_print_shown(stdout, "%s: %s of %s tensors converted, largest error %.3g of a block's largest weight, %s",
                           options->output, FR_TEXT_GROUPED(written.tensors_converted), FR_TEXT_GROUPED(written.tensors),
                           written.max_relative_error, FR_TEXT_SIZE(written.apparent_bytes));
    }
    return fr_cli_flush(FR_EXIT_DONE);
}
