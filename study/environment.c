#include "study/environment.h"

#include <dnnl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "core/file.h"
#include "core/kernels/cpu.h"
#include "core/kernels/isa.h"
#include "core/linear/linear.h"
#include "core/processors.h"
#include "forerun_checkpoint.h"
#include "forerun_study.h"
#include "model/weights.h"
#include "study/statistics.h"
#include "study/words.h"

/* Goes up when a figure of a document is pooled in another way, or its interval taken in another way: docs/REPORTS.md has the
 * list. */
enum { DEFINITIONS = 2 };

#if defined(__clang__)
#define COMPILER __VERSION__
#else
#define COMPILER "GCC " __VERSION__
#endif

static void add_created(fr_json_builder *d) {
    time_t now = time(NULL);
    struct tm utc;
    char text[32];
    if (gmtime_r(&now, &utc) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc))
        fr_json_add_text(d, d->root, "created", text);
    else
        fr_json_add_null(d, d->root, "created");
}

static void add_machine(fr_json_builder *d, cJSON *to, const fr_kernels *kernels) {
    const fr_cpu *cpu = fr_cpu_get();
    struct utsname system;
    char text[300];
    double load[3] = {NAN, NAN, NAN};
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    fr_json_add_text(d, to, "cpu", cpu->name);
    cJSON *available = fr_json_add_array(d, to, "isa_available");
    for (fr_isa isa = FR_ISA_SCALAR; isa < FR_ISA_COUNT; isa++)
        if (fr_isa_available(isa)) fr_json_add_text(d, available, NULL, fr_isa_name(isa));
    fr_json_add_text(d, to, "isa", fr_isa_name(kernels->isa));
    fr_linear_prefill_path(kernels, text, sizeof text);
    fr_json_add_text(d, to, "linear_path", text);
    fr_json_add_count(d, to, "physical_cores", (uint64_t)fr_physical_cores());
    if (uname(&system) == 0) {
        snprintf(text, sizeof text, "%s %s %s", system.sysname, system.release, system.machine);
        fr_json_add_text(d, to, "os", text);
    } else {
        fr_json_add_null(d, to, "os");
    }
    if (pages > 0 && page > 0)
        fr_json_add_count(d, to, "memory_bytes", (uint64_t)pages * (uint64_t)page);
    else
        fr_json_add_null(d, to, "memory_bytes");
    if (getloadavg(load, 3) != 3) load[0] = load[1] = load[2] = NAN;
    fr_json_add_reals(d, to, "load_average", load, 3);
}

/* How the system sets the clock of the first CPU: anything but "performance" makes timings wander. Absent where the
 * system does not say. */
static void add_governor(fr_json_builder *d, cJSON *to) {
    char text[64];
    if (fr_read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", text, sizeof text))
        fr_json_add_text(d, to, "governor", text);
}

static void add_parameters(fr_json_builder *d, cJSON *to, const char *path) {
    fr_inspection *inspection = NULL;
    if (!path || fr_inspect(path, &inspection, NULL) != FR_OK) return;
    const fr_parameters *p = fr_inspection_parameters(inspection);
    cJSON *parameters = fr_json_add_object(d, to, "parameters");
    fr_json_add_count(d, parameters, "main_total", p->main_total);
    fr_json_add_count(d, parameters, "main_activated", p->main_activated);
    fr_json_add_count(d, parameters, "mtp_unique", p->mtp_unique);
    fr_json_add_count(d, parameters, "mtp_activated", p->mtp_activated);
    fr_inspection_destroy(inspection);
}

static void add_model(fr_json_builder *d, cJSON *to, const fr_model *model, const char *path) {
    cJSON *object = fr_json_add_object(d, to, "model");
    const fr_config *c = &model->config;
    char fingerprint[24];
    if (path) fr_json_add_text(d, object, "path", path);
    snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, model->fingerprint);
    fr_json_add_text(d, object, "fingerprint", fingerprint);
    fr_json_add_count(d, object, "layers", (uint64_t)c->num_hidden_layers);
    fr_json_add_count(d, object, "moe_layers", (uint64_t)model->num_moe_layers);
    fr_json_add_count(d, object, "hidden_size", (uint64_t)c->hidden_size);
    fr_json_add_count(d, object, "vocab_size", (uint64_t)c->vocab_size);
    fr_json_add_count(d, object, "experts", (uint64_t)c->n_routed_experts);
    fr_json_add_count(d, object, "experts_per_token", (uint64_t)c->num_experts_per_tok);
    fr_json_add_bool(d, object, "mtp", model->mtp.files.present);
    add_parameters(d, object, path);
    fr_json_add_count(d, object, "bytes", fr_checkpoint_bytes(model->checkpoint));
    fr_json_add_text(d, object, "act", fr_act_word(model->act_fp8 ? FR_ACT_FP8 : FR_ACT_NONE));
    fr_json_add_text(d, object, "draft_head",
                     fr_draft_head_word(model->draft_head.owned_w ? FR_DRAFT_HEAD_FP8 : FR_DRAFT_HEAD_EXACT));
    fr_json_add_text(d, object, "weights", fr_weights_word(model->plan.weights));
}

cJSON *fr_study_header(fr_json_builder *d, const char *schema, const fr_model *model, const fr_study_origin *origin,
                       uint64_t seed) {
    const dnnl_version_t *onednn = dnnl_version();
    char version[48];
    fr_json_add_text(d, d->root, "schema", schema);
    add_created(d);
    cJSON *command = fr_json_add_array(d, d->root, "command");
    for (size_t i = 0; i < origin->num_command; i++) fr_json_add_text(d, command, NULL, origin->command[i]);
    cJSON *environment = fr_json_add_object(d, d->root, "environment");
    fr_json_add_text(d, environment, "forerun", FR_VERSION);
    snprintf(version, sizeof version, "%d.%d.%d", onednn->major, onednn->minor, onednn->patch);
    fr_json_add_text(d, environment, "onednn", version);
    fr_json_add_text(d, environment, "compiler", COMPILER);
    add_machine(d, environment, model->kernels);
    fr_json_add_count(d, environment, "threads", (uint64_t)model->threads);
    add_governor(d, environment);
    add_model(d, environment, model, origin->model_path);
    fr_json_add_notices(d, d->root, model->notices.list, model->notices.count);
    cJSON *options = fr_json_add_object(d, environment, "options");
    fr_json_add_count(d, environment, "seed", seed);
    return options;
}

cJSON *fr_study_add_prompts(fr_json_builder *d, const fr_prompts *prompts, size_t count) {
    cJSON *object = fr_json_add_object(d, d->root, "prompts");
    uint64_t tokens = 0, in_template = 0;
    for (size_t p = 0; p < count; p++) {
        tokens += prompts->items[p].count;
        in_template += prompts->items[p].chat_template;
    }
    fr_json_add_count(d, object, "count", count);
    fr_json_add_count(d, object, "tokens", tokens);
    fr_json_add_count(d, object, "in_chat_template", in_template);
    cJSON *domains = fr_json_add_array(d, object, "domains");
    for (size_t p = 0; p < count; p++) {
        const char *domain = prompts->items[p].domain;
        uint64_t members = 0;
        if (!fr_prompt_opens_domain(prompts, p)) continue;
        for (size_t q = p; q < count; q++) members += strcmp(prompts->items[q].domain, domain) == 0;
        cJSON *item = fr_json_add_object(d, domains, NULL);
        fr_json_add_text(d, item, "domain", domain);
        fr_json_add_count(d, item, "count", members);
    }
    return object;
}

void fr_study_add_statistics(fr_json_builder *d, const fr_pooling *figures, size_t count, const char *says) {
    cJSON *object = fr_json_add_object(d, d->root, "statistics");
    fr_json_add_count(d, object, "definitions", DEFINITIONS);
    fr_json_add_real(d, object, "confidence", 0.95);
    fr_json_add_count(d, object, "least_units", FR_LEAST_UNITS);
    cJSON *array = fr_json_add_array(d, object, "figures");
    for (size_t i = 0; i < count; i++) {
        cJSON *item = fr_json_add_object(d, array, NULL);
        fr_json_add_text(d, item, "figure", figures[i].figure);
        fr_json_add_text(d, item, "pooled", figures[i].pooled);
    }
    fr_json_add_text(d, object, "says", says);
}

void fr_study_add_sampling(fr_json_builder *d, cJSON *to, const fr_sampling *s) {
    fr_json_add_count(d, to, "top_k", (uint64_t)s->top_k);
    fr_json_add_real(d, to, "top_p", (double)s->top_p);
    fr_json_add_real(d, to, "min_p", (double)s->min_p);
    fr_json_add_real(d, to, "repetition_penalty", (double)s->repetition_penalty);
    fr_json_add_real(d, to, "presence_penalty", (double)s->presence_penalty);
    fr_json_add_real(d, to, "frequency_penalty", (double)s->frequency_penalty);
    cJSON *biases = fr_json_add_object(d, to, "logit_bias");
    for (size_t i = 0; i < s->num_logit_bias; i++) {
        char token[16];
        snprintf(token, sizeof token, "%d", (int)s->logit_bias[i].token);
        if (isinf((double)s->logit_bias[i].bias))
            fr_json_add_text(d, biases, token, "-inf"); /* the other one is refused */
        else
            fr_json_add_real(d, biases, token, (double)s->logit_bias[i].bias);
    }
}
