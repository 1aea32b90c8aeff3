#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/notice.h"
#include "cli/output.h"
#include "cli/shown.h"
#include "core/json_path.h"
#include "core/text_size.h"
#include "forerun_checkpoint.h"

typedef struct inspection {
    const fr_cli_options *options;
    const char *path;
    fr_inspection *found;
    const fr_parameters *parameters;
    cJSON *config;
    uint64_t context;      /* max_position_embeddings; 0: not in the config */
    uint64_t tensor_bytes; /* of all tensors in the files */
    fr_memory_plan plan;
    bool fits;
} inspection;

static uint64_t config_count(const cJSON *config, const char *key) {
    double value = fr_path_number(config, key);
    return value > 0 ? (uint64_t)value : 0;
}

static const char *config_text(const cJSON *config, const char *key) {
    const char *text = fr_path_text(config, key);
    return text ? text : "?";
}

static bool matches(const inspection *run, const fr_tensor_info *tensor) {
    return !run->options->filter || fnmatch(run->options->filter, tensor->name, 0) == 0;
}

static bool lists_tensors(const inspection *run) {
    return run->options->tensors || run->options->filter;
}

static uint64_t needed_bytes(const inspection *run, uint64_t tokens) {
    const fr_parameters *p = run->parameters;
    return p->fp8_bytes + tokens * (p->kv_bytes_per_token_bf16 + p->mtp_kv_bytes_per_token_bf16 + p->index_bytes_per_token_bf16 +
                                    p->mtp_index_bytes_per_token_bf16);
}

/* ---- Text -------------------------------------------------------------------------------------------------- */

/* Keys that the file leaves out are in the notices. */
static void print_experts(const inspection *run) {
    const cJSON *c = run->config;
    uint64_t groups = config_count(c, "n_group"), top = config_count(c, "num_experts_per_tok");
    if (run->parameters->moe_mlp == 0) {
        printf("  experts              none\n");
        return;
    }
    printf("  experts              %" PRIu64, config_count(c, "n_routed_experts"));
    if (groups > 1) printf(" in %" PRIu64 " groups (%" PRIu64 " kept)", groups, config_count(c, "topk_group"));
    if (top > 0) printf(", top %" PRIu64, top);
    printf(", %" PRIu64 " shared\n", config_count(c, "n_shared_experts"));
}

static void print_config(const inspection *run) {
    const cJSON *c = run->config, *quantization = fr_path_object(c, "quantization_config");
    const cJSON *scaling = fr_path_object(c, "rope_scaling");
    if (!scaling && fr_path_value(c, "rope_parameters.factor")) scaling = fr_path_object(c, "rope_parameters");
    const char *architecture = config_text(c, "architectures.0");
    const fr_parameters *p = run->parameters;
    fr_cli_print_shown(stdout, "%s", run->path);
    fr_cli_print_shown(stdout, "  architecture         %s", architecture);
    printf("  layers               %d: %d dense, %d MoE; %d MTP\n", p->dense_layers + p->moe_layers, p->dense_layers,
           p->moe_layers, p->mtp_modules);
    printf("  hidden size          %s\n", FR_TEXT_GROUPED(config_count(c, "hidden_size")));
    printf("  vocabulary           %s\n", FR_TEXT_GROUPED(config_count(c, "vocab_size")));
    printf("  attention            %s heads; kv_lora_rank %s, positions %s; ",
           FR_TEXT_GROUPED(config_count(c, "num_attention_heads")), FR_TEXT_GROUPED(config_count(c, "kv_lora_rank")),
           FR_TEXT_GROUPED(config_count(c, "qk_rope_head_dim")));
    if (config_count(c, "q_lora_rank"))
        printf("q_lora_rank %s\n", FR_TEXT_GROUPED(config_count(c, "q_lora_rank")));
    else
        printf("no q_lora_rank\n");
    print_experts(run);
    if (quantization)
        fr_cli_print_shown(stdout, "  quantization         %s %s, activations %s", config_text(quantization, "quant_method"),
                           config_text(quantization, "fmt"), config_text(quantization, "activation_scheme"));
    else
        printf("  quantization         none\n");
    if (scaling)
        fr_cli_print_shown(stdout, "  context              %s (%s, %s extended)", FR_TEXT_GROUPED(run->context),
                           config_text(scaling, "rope_type|type"),
                           FR_TEXT_GROUPED(config_count(scaling, "original_max_position_embeddings")));
    else
        printf("  context              %s\n", FR_TEXT_GROUPED(run->context));
}

static void print_count(const char *name, uint64_t value) {
    printf("  %-20s %19s", name, FR_TEXT_GROUPED(value));
    if (value >= 1000) printf("  %s", FR_TEXT_COUNT(value));
    putchar('\n');
}

static void print_bytes(const char *name, uint64_t value) {
    printf("  %-20s %19s  %s\n", name, FR_TEXT_GROUPED(value), FR_TEXT_SIZE(value));
}

static void print_counts(const inspection *run) {
    const fr_parameters *p = run->parameters;
    uint64_t kv = p->kv_bytes_per_token_bf16, mtp_kv = p->mtp_kv_bytes_per_token_bf16;
    printf("\nparameters\n");
    print_count("main model", p->main_total);
    print_count("  attention", p->attention);
    if (p->indexer) print_count("  indexer", p->indexer);
    print_count("  dense MLP", p->dense_mlp);
    print_count("  MoE", p->moe_mlp);
    print_count("  embedding", p->embedding);
    print_count("  head", p->head);
    print_count("a token touches", p->main_activated);
    if (p->mtp_total) {
        print_count("MTP as stored", p->mtp_total);
        print_count("  its own", p->mtp_unique);
        print_count("a draft touches", p->mtp_activated);
    }
    printf("\nbytes\n");
    print_bytes("weights", p->fp8_bytes);
    print_bytes("KV, a token", kv);
    print_bytes("KV, 1,024 tokens", 1024 * kv);
    print_bytes("KV, full context", run->context * kv);
    print_bytes("KV in f32, a token", p->kv_bytes_per_token_f32);
    if (p->mtp_total) print_bytes("MTP KV, a token", mtp_kv);
    if (p->indexers) print_bytes("index keys, a token", p->index_bytes_per_token_bf16);
    if (p->indexers && p->mtp_total) print_bytes("MTP index keys", p->mtp_index_bytes_per_token_bf16);
    if (run->context > 4096) print_bytes("needed, 4,096 tokens", needed_bytes(run, 4096));
    print_bytes("needed, full context", needed_bytes(run, run->context));
}

static void print_tensors(const inspection *run) {
    size_t count = fr_inspection_num_tensors(run->found), listed = 0;
    int name_width = 0, shape_width = 0;
    fr_tensor_info tensor;
    char shape[96];
    for (int pass = 0; pass < 2; pass++) { /* the first measures the columns */
        for (size_t i = 0; i < count; i++) {
            fr_inspection_tensor(run->found, i, &tensor);
            if (!matches(run, &tensor)) continue;
            int used = snprintf(shape, sizeof shape, "[");
            for (int d = 0; d < tensor.rank && d < 4; d++)
                used += snprintf(shape + used, sizeof shape - (size_t)used, "%s%" PRId64, d ? ", " : "", tensor.shape[d]);
            used += snprintf(shape + used, sizeof shape - (size_t)used, "]");
            int name = (int)strlen(tensor.name);
            if (name > name_width) name_width = name;
            if (used > shape_width) shape_width = used;
            listed += pass;
            if (pass)
                fr_cli_print_shown(stdout, "%-*s  %-*s  %-8s  %s", name_width, tensor.name, shape_width, shape, tensor.dtype,
                                   tensor.file);
        }
        if (pass == 0) printf("\n");
    }
    printf("%zu of %zu tensors\n", listed, count);
}

static void print_plan(const inspection *run) {
    const fr_memory_plan *p = &run->plan;
    bool streamed = p->weights == FR_WEIGHTS_STREAM;
    printf("\nmemory for a context of %s", FR_TEXT_GROUPED((uint64_t)p->ctx));
    if (run->options->ranks > 1) printf(", on the largest of %d ranks", run->options->ranks);
    printf("\n");
    if (streamed) {
        print_bytes("experts, cached", p->cache_bytes);
        print_bytes("other weights", p->resident_bytes);
    } else {
        print_bytes(p->weights == FR_WEIGHTS_COPY ? "weights, copied" : "weights, mapped", p->weight_bytes);
    }
    print_bytes("tables", p->table_bytes);
    if (p->draft_head_bytes) print_bytes("draft head", p->draft_head_bytes);
    print_bytes("KV caches", p->session.kv_bytes + p->session.mtp_kv_bytes);
    print_bytes("workspace", p->session.workspace_bytes);
    print_bytes("to allocate", p->private_bytes);
    print_bytes("together", p->total_bytes);
    if (p->available_bytes) print_bytes("available here", p->available_bytes);
    if (!run->fits)
        printf("  does not fit\n");
    else if (streamed) {
        char text[256];
        fr_cli_stream_text(p, text, sizeof text);
        printf("  streamed: %s\n", text);
    } else if (!p->all_fits)
        printf("  runs, but at the speed of the disk: the weights do not fit\n");
}

/* ---- JSON -------------------------------------------------------------------------------------------------- */

static void add_tensors(const inspection *run, fr_json_builder *b, cJSON *array) {
    fr_tensor_info tensor;
    size_t count = fr_inspection_num_tensors(run->found);
    for (size_t i = 0; i < count; i++) {
        uint64_t shape[4] = {0, 0, 0, 0};
        fr_inspection_tensor(run->found, i, &tensor);
        if (!matches(run, &tensor)) continue;
        for (int d = 0; d < tensor.rank && d < 4; d++) shape[d] = (uint64_t)tensor.shape[d];
        cJSON *item = fr_json_add_object(b, array, NULL);
        fr_json_add_text(b, item, "name", tensor.name);
        fr_json_add_text(b, item, "dtype", tensor.dtype);
        fr_json_add_counts(b, item, "shape", shape, (size_t)tensor.rank);
        fr_json_add_text(b, item, "file", tensor.file);
        fr_json_add_count(b, item, "bytes", tensor.bytes);
    }
}

/* `tensors` is always an array: empty unless --tensors or --filter asks for it; `num_tensors` counts all there are. */
static void print_document(inspection *run) {
    const fr_parameters *p = run->parameters;
    fr_json_builder builder, *b = &builder;
    cJSON *part;
    fr_cli_json_begin(b);
    fr_json_add_text(b, b->root, "path", run->path);
    part = fr_json_add_object(b, b->root, "parameters");
    fr_json_add_count(b, part, "main_total", p->main_total);
    fr_json_add_count(b, part, "main_activated", p->main_activated);
    fr_json_add_count(b, part, "embedding", p->embedding);
    fr_json_add_count(b, part, "head", p->head);
    fr_json_add_count(b, part, "attention", p->attention);
    fr_json_add_count(b, part, "indexer", p->indexer);
    fr_json_add_count(b, part, "dense_mlp", p->dense_mlp);
    fr_json_add_count(b, part, "moe_mlp", p->moe_mlp);
    fr_json_add_count(b, part, "mtp_total", p->mtp_total);
    fr_json_add_count(b, part, "mtp_unique", p->mtp_unique);
    fr_json_add_count(b, part, "mtp_activated", p->mtp_activated);
    part = fr_json_add_object(b, b->root, "bytes");
    fr_json_add_count(b, part, "weight_bytes", p->fp8_bytes);
    if (run->options->config)
        fr_json_add_null(b, part, "tensor_bytes");
    else
        fr_json_add_count(b, part, "tensor_bytes", run->tensor_bytes);
    fr_json_add_count(b, part, "kv_per_token_bf16_bytes", p->kv_bytes_per_token_bf16);
    fr_json_add_count(b, part, "kv_per_token_f32_bytes", p->kv_bytes_per_token_f32);
    fr_json_add_count(b, part, "mtp_kv_per_token_bf16_bytes", p->mtp_kv_bytes_per_token_bf16);
    fr_json_add_count(b, part, "index_per_token_bf16_bytes", p->index_bytes_per_token_bf16);
    fr_json_add_count(b, part, "mtp_index_per_token_bf16_bytes", p->mtp_index_bytes_per_token_bf16);
    fr_json_add_count(b, part, "kv_full_context_bf16_bytes", run->context * p->kv_bytes_per_token_bf16);
    fr_json_add_count(b, part, "mtp_kv_full_context_bf16_bytes", run->context * p->mtp_kv_bytes_per_token_bf16);
    fr_json_add_count(b, part, "needed_full_context_bytes", needed_bytes(run, run->context));
    fr_cli_add_plan(b, b->root, "memory", &run->plan, run->fits);
    fr_json_add_count(b, b->root, "ranks", (uint64_t)(run->options->ranks > 1 ? run->options->ranks : 1));
    fr_json_add_count(b, b->root, "num_tensors", fr_inspection_num_tensors(run->found));
    part = fr_json_add_array(b, b->root, "tensors");
    if (lists_tensors(run)) add_tensors(run, b, part);
    fr_json_add(b, b->root, "config", run->config);
    run->config = NULL; /* the document's now */
    fr_cli_json_print(b);
}

/* Returns 0, or an exit code, printed, when there is no such session. One that does not fit is no error: run->fits says so. */
static int make_plan(inspection *run) {
    fr_error error = {0};
    fr_model_options model = fr_cli_model_options(run->options);
    fr_session_options session = {.ctx = run->options->ctx, .kv = (fr_kv)run->options->kv};
    const int ranks = run->options->ranks > 1 ? run->options->ranks : 1;
    run->fits = true;
    for (int i = 0; i < ranks; i++) { /* the one that needs most is what matters */
        fr_memory_plan plan;
        fr_status status = fr_plan_rank(run->found, &model, &session, i, ranks, &plan, &error);
        if (status != FR_OK && status != FR_ERROR_MEMORY) return fr_cli_failure(&error);
        run->fits &= status == FR_OK;
        if (i == 0 || plan.total_bytes > run->plan.total_bytes) run->plan = plan;
    }
    return 0;
}

int fr_cmd_inspect(const fr_cli_options *options) {
    inspection run = {.options = options};
    fr_error error = {0};
    if (options->config && options->model)
        return fr_cli_error(FR_EXIT_USAGE, "--config: it stands for itself, and cannot be given with --model");
    run.path = options->config ? options->config : fr_cli_model_dir(options, true);
    if (!run.path) return FR_EXIT_FAILED;
    if (fr_inspect(run.path, &run.found, &error) != FR_OK) return fr_cli_failure(&error);
    size_t num_notices;
    const fr_notice *notices = fr_inspection_notices(run.found, &num_notices);
    fr_cli_notices(notices, num_notices);
    int code = make_plan(&run);
    if (code) {
        fr_inspection_destroy(run.found);
        return code;
    }
    run.parameters = fr_inspection_parameters(run.found);
    run.config = cJSON_Parse(fr_inspection_config_json(run.found));
    if (!run.config) {
        fr_inspection_destroy(run.found);
        return fr_cli_error(FR_EXIT_FAILED, "%s: the config is not JSON", run.path);
    }
    run.context = config_count(run.config, "max_position_embeddings");
    for (size_t i = 0; i < fr_inspection_num_tensors(run.found); i++) {
        fr_tensor_info tensor;
        fr_inspection_tensor(run.found, i, &tensor);
        run.tensor_bytes += tensor.bytes;
    }
    if (options->config && lists_tensors(&run)) fr_cli_note("a config alone lists no tensors");
    if (options->json) {
        print_document(&run);
    } else {
        print_config(&run);
        print_counts(&run);
        print_plan(&run);
        if (lists_tensors(&run))
            print_tensors(&run);
        else if (!options->config)
            printf("\n%s tensors\n", FR_TEXT_GROUPED(fr_inspection_num_tensors(run.found)));
    }
    cJSON_Delete(run.config);
    fr_inspection_destroy(run.found);
    return fr_cli_flush(FR_EXIT_DONE);
}
