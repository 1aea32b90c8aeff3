#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/notice.h"
#include "cli/output.h"
#include "cli/ranks.h"
#include "core/json.h"
#include "core/json_path.h"
#include "forerun_checkpoint.h"

static bool is_directory(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* The demo model: beside an installed program wherever that was moved to, or in the source tree that a built one came from. */
static const char *demo_model(void) {
    static char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof FR_INSTALLED_DEMO_MODEL);
    while (length > 0 && path[length - 1] != '/') length--;
    if (length > 0) {
        memcpy(path + length, FR_INSTALLED_DEMO_MODEL, sizeof FR_INSTALLED_DEMO_MODEL);
        if (is_directory(path)) return path;
    }
    return is_directory(FR_DEMO_MODEL_DIR) ? FR_DEMO_MODEL_DIR : NULL;
}

/* A path below the working directory becomes relative to it, as people would write it. */
static const char *from_here(const char *path) {
    static char whole[PATH_MAX];
    char here[PATH_MAX];
    if (!path || !realpath(path, whole) || !getcwd(here, sizeof here)) return path;
    size_t length = strlen(here);
    return strncmp(whole, here, length) == 0 && whole[length] == '/' ? whole + length + 1 : whole;
}

/* What the user named, or the one snapshot in it. */
static const char *find_model(const char *named, bool weights) {
    static char found[PATH_MAX];
    bool before = *found; /* a command that asks twice notes it once */
    char *dir;
    fr_error error = {0};
    if (fr_find_checkpoint(named, weights, &dir, &error) != FR_OK) {
        fr_cli_failure(&error);
        return NULL;
    }
    snprintf(found, sizeof found, "%s", dir);
    fr_free(dir);
    if (strcmp(found, named) == 0) return named;
    char why[sizeof found + 80];
    snprintf(why, sizeof why, "a Hugging Face cache folder: its one snapshot is taken, %s", found);
    if (!before) fr_cli_notice(&(fr_notice){.what = named, .why = why});
    return found;
}

const char *fr_cli_model_dir(const fr_cli_options *options, bool weights) {
    const char *demo = options->model ? NULL : from_here(demo_model());
    if (demo) return demo;
    if (options->model) return find_model(options->model, weights);
    fr_cli_error(FR_EXIT_FAILED, "model: none was given, and the demo model is not installed");
    fr_cli_hint("name a checkpoint's directory with -m DIR");
    return NULL;
}

fr_chat_options fr_cli_chat_options(const fr_cli_options *options) {
    return (fr_chat_options){.raw_special = options->raw_special, .think = (fr_think)options->think};
}

fr_model_options fr_cli_model_options(const fr_cli_options *options) {
    return (fr_model_options){.threads = options->threads,
                              .act = (fr_act)options->act,
                              .isa = (fr_isa)options->isa,
                              .draft_head = (fr_draft_head)options->draft_head,
                              .weights = (fr_weights)options->weights,
                              .expert_cache = options->expert_cache,
                              .reader = (fr_reader_kind)options->reader,
                              .chat_format = options->chat_format,
                              .no_pin = options->no_pin,
                              .ranks = fr_cli_ranks()};
}

static bool show_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    fr_cli_runtime *runtime = user;
    return fr_cli_progress_update(&runtime->progress, what, done, total);
}

static void show_plan(void *user, const fr_memory_plan *plan) {
    char text[256];
    (void)user;
    fr_cli_plan_text(plan, text, sizeof text);
    if (fr_cli_ranks())
        fr_cli_note("memory of rank 0 of %d: %s", fr_ranks_size(fr_cli_ranks()), text);
    else
        fr_cli_note("memory: %s", text);
    if (plan->weights == FR_WEIGHTS_STREAM) {
        fr_cli_stream_text(plan, text, sizeof text);
        fr_cli_note("streaming: %s", text);
    } else if (!plan->all_fits)
        fr_cli_note("warning: weights and all else do not fit into memory together: decoding will go at the speed of the disk");
}

/* What is known of an opened model. */
static void show_model(fr_cli_runtime *runtime) {
    size_t count;
    fr_model_get_info(runtime->model, &runtime->info);
    const fr_notice *notices = fr_model_notices(runtime->model, &count);
    fr_cli_notices(notices, count);
}

int fr_cli_runtime_open_tokenizer(fr_cli_runtime *runtime, const fr_cli_options *options) {
    fr_error error = {0};
    memset(runtime, 0, sizeof *runtime);
    runtime->dir = fr_cli_model_dir(options, false);
    if (!runtime->dir) return FR_EXIT_FAILED;
    if (fr_model_open_tokenizer(runtime->dir, options->chat_format, &runtime->model, &error) != FR_OK)
        return fr_cli_failure(&error);
    show_model(runtime);
    return 0;
}

int fr_cli_runtime_open_for(fr_cli_runtime *runtime, const fr_cli_options *options, const fr_session_options *session) {
    memset(runtime, 0, sizeof *runtime);
    runtime->dir = fr_cli_model_dir(options, true);
    if (!runtime->dir) return FR_EXIT_FAILED;
    fr_model_options model_options = fr_cli_model_options(options);
    model_options.session = session;
    model_options.planned = session ? show_plan : NULL;
    model_options.progress = show_progress;
    model_options.notice = fr_cli_take_notice;
    model_options.user = runtime;
    fr_error error = {0};
    fr_cli_progress_init(&runtime->progress);
    double start = fr_cli_seconds();
    fr_status status = fr_model_open(runtime->dir, &model_options, &runtime->model, &error);
    fr_cli_progress_clear(&runtime->progress);
    if (status != FR_OK) {
        runtime->model = NULL;
        return fr_cli_failure(&error);
    }
    runtime->load_s = fr_cli_seconds() - start;
    show_model(runtime);
    return 0;
}

int fr_cli_runtime_open(fr_cli_runtime *runtime, const fr_cli_options *options) {
    fr_session_options session = fr_cli_session_options(options, NULL);
    int code = fr_cli_runtime_open_for(runtime, options, &session);
    if (!code) fr_cli_suggest_sampling(options, runtime->dir);
    return code;
}

void fr_cli_suggest_sampling(const fr_cli_options *options, const char *dir) {
    enum { MOST_BYTES = 1 << 20 };
    char path[PATH_MAX], nucleus[40] = "";
    cJSON *json = NULL;
    if (fr_cli_given(options, "temperature") || fr_cli_given(options, "temperatures")) return;
    if (snprintf(path, sizeof path, "%s/generation_config.json", dir) >= (int)sizeof path) return;
    if (fr_json_load(path, MOST_BYTES, &json, NULL) != FR_OK) return; /* what is wrong with it is said by opening the model */
    double temperature = fr_path_number(json, "temperature"), top_p = fr_path_number(json, "top_p");
    if (top_p > 0 && top_p < 1 && !fr_cli_given(options, "top-p")) snprintf(nucleus, sizeof nucleus, " --top-p %g", top_p);
    if (temperature > 0 && !cJSON_IsFalse(fr_path_value(json, "do_sample")))
        fr_cli_note("hint: generation_config.json suggests --temperature %g%s; without, decoding is greedy", temperature,
                    nucleus);
    cJSON_Delete(json);
}

void fr_cli_runtime_close(fr_cli_runtime *runtime) {
    fr_model_destroy(runtime->model);
    runtime->model = NULL;
}

int fr_cli_depth(const fr_cli_options *options, const fr_model_info *info) {
    if (options->mtp == FR_DRAFTING_OFF || !info->has_mtp) return 0;
    return options->depth ? options->depth : fr_default_depth((fr_drafting)options->mtp);
}

fr_sampling fr_cli_sampling(const fr_cli_options *options) {
    return (fr_sampling){
        .temperature = (float)options->temperature,
        .top_k = options->top_k,
        .top_p = (float)options->top_p,
        .min_p = (float)options->min_p,
        .repetition_penalty = (float)options->repetition_penalty,
        .presence_penalty = (float)options->presence_penalty,
        .frequency_penalty = (float)options->frequency_penalty,
        .logit_bias = options->logit_bias.biases,
        .num_logit_bias = options->logit_bias.count,
        .seed = options->seed,
        .verify = (fr_verify)options->verify,
    };
}

/* Where auto keeps what it learns; NULL: nowhere. Folders that must be absolute and are not do not count, as XDG's specification
 * says. */
static const char *learned_folder(const fr_cli_options *options) {
    static char folder[4096];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (options->no_learned) return NULL;
    if (cache && cache[0] == '/')
        snprintf(folder, sizeof folder, "%s/forerun", cache);
    else if (home && home[0] == '/')
        snprintf(folder, sizeof folder, "%s/.cache/forerun", home);
    else
        return NULL;
    return folder;
}

fr_session_options fr_cli_session_options(const fr_cli_options *options, fr_cli_progress *progress) {
    return (fr_session_options){
        .ctx = options->ctx,
        .kv = (fr_kv)options->kv,
        .drafting = (fr_drafting)options->mtp,
        .depth = options->depth,
        .mtp_hidden = (fr_hidden_state)options->mtp_hidden,
        .drafter = (fr_drafter_kind)options->drafter,
        .mtp_recycle = (fr_recycle)options->mtp_recycle,
        .sampling = fr_cli_sampling(options),
        .learned = learned_folder(options),
        .check_finite = options->check_finite,
        .ignore_eos = options->ignore_eos,
        .progress = fr_cli_progress_update,
        .user = progress,
    };
}

fr_status fr_cli_text_stream(const fr_model *model, const fr_cli_options *options, fr_text_stream **out, fr_error *error) {
    fr_status status = fr_text_stream_create(model, out, error);
    if (status != FR_OK || options->stop.count == 0) return status;
    status = fr_text_stream_stop_at(*out, options->stop.texts, options->stop.count, error);
    if (status == FR_OK) return status;
    fr_text_stream_destroy(*out);
    return status;
}
