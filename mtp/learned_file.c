/* The file of what was learned: JSON of one object, a key for each row of the table below. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/checkpoint/checksum.h"
#include "core/json.h"
#include "core/json_builder.h"
#include "core/kernels/cpu.h"
#include "core/kernels/isa.h"
#include "core/new_file.h"
#include "mtp/learned.h"

static const char schema[] = "forerun.learned/1";
enum { MOST_BYTES = 65536 };

static const struct {
    const char *key;
    size_t at;
    int count;
} fields[] = {
#define FIELD(name)                                                                                                              \
    { #name, offsetof(fr_learned, name), (int)(sizeof((fr_learned *)0)->name / sizeof(double)) }
    FIELD(level_s),    FIELD(pass),   FIELD(pass_doubt), FIELD(draft),    FIELD(draft_doubt), FIELD(acceptance), FIELD(reached),
    FIELD(correction), FIELD(judged), FIELD(tokens),     FIELD(verified), FIELD(chained),     FIELD(cycles),     FIELD(off),
#undef FIELD
};
enum { FIELDS = sizeof fields / sizeof *fields };

/* ---- Its name ---- */

static uint64_t add(uint64_t hash, const char *text) {
    return fr_hash64(hash, text, strlen(text) + 1);
}

/* What passes cost where experts come from the disk goes by how many of them are in memory, in eighths. */
static int streams(const fr_model *model) {
    const fr_memory_plan *p = &model->plan;
    return model->experts ? 1 + (int)((int64_t)p->cached_experts * 8 / p->experts) : 0;
}

bool fr_learned_path(const fr_model *model, const fr_session_options *o, const char *folder, char path[FR_LEARNED_PATH]) {
    uint64_t machine = add(add(FR_HASH64_START, fr_cpu_get()->name), model->kernels->name);
    const int numbers[] = {model->threads,
                           model->act_fp8,
                           streams(model),
                           fr_linear_bytes(&model->draft_head) != fr_linear_bytes(&model->lm_head),
                           (int)o->kv,
                           (int)o->drafter,
                           (int)o->mtp_hidden,
                           (int)o->mtp_recycle,
                           o->sampling.temperature > 0.0f && o->sampling.verify == FR_VERIFY_REJECTION};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) machine = fr_hash64_number(machine, (uint64_t)numbers[i]);
    int length = snprintf(path, FR_LEARNED_PATH, "%s/%016llx-%016llx.json", folder, (unsigned long long)model->fingerprint,
                          (unsigned long long)machine);
    return length > 0 && length < FR_LEARNED_PATH - 16; /* room for a temporary name */
}

/* ---- Reading ---- */

static bool get(const cJSON *object, const char *key, int count, double *out) {
    const cJSON *array = fr_json_find(object, key);
    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) != count) return false;
    for (int i = 0; i < count; i++) out[i] = fr_json_number_at(array, i);
    return true;
}

bool fr_learned_read(const char *path, fr_learned *out) {
    cJSON *object = NULL;
    if (access(path, R_OK) != 0 || fr_json_load(path, MOST_BYTES, &object, NULL) != FR_OK) return false;
    const cJSON *named = fr_json_find(object, "schema");
    bool fits = cJSON_IsString(named) && strcmp(named->valuestring, schema) == 0;
    for (int i = 0; i < FIELDS && fits; i++)
        fits = get(object, fields[i].key, fields[i].count, (double *)((char *)out + fields[i].at));
    cJSON_Delete(object);
    return fits && fr_learned_makes_sense(out);
}

/* ---- Writing ---- */

static void make_folders(const char *path) {
    char folder[FR_LEARNED_PATH];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(folder, 0777); /* that it is there already is fine, and what else is wrong shows when the file is opened */
        *slash = '/';
    }
}

fr_status fr_learned_write(const char *path, const fr_learned *learned, fr_error *error) {
    fr_json_builder b;
    fr_json_begin(&b);
    fr_json_add_text(&b, b.root, "schema", schema);
    for (int i = 0; i < FIELDS; i++)
        fr_json_add_reals(&b, b.root, fields[i].key, (const double *)((const char *)learned + fields[i].at),
                          (size_t)fields[i].count);
    char *text = fr_json_print(&b);
    fr_json_discard(&b);
    make_folders(path);
    fr_status status = text ? fr_replace_file(path, text, strlen(text), false, error) /* what is lost is learned again */
                            : fr_fail(error, FR_ERROR_MEMORY, "learned: out of memory");
    cJSON_free(text);
    return status;
}
