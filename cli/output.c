#include "cli/output.h"
#include "study/speculation.h"
#include "study/words.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/message.h"
#include "cli/options.h"
#include "cli/shown.h"

/* ---- Raw JSON ---------------------------------------------------------------------------------------------- */

typedef struct text_buffer {
    char *bytes;
    size_t length, room;
} text_buffer;

/* Makes room for `more` bytes and a NUL; returns where they go. */
static char *reserve(text_buffer *buffer, size_t more) {
    if (buffer->length + more + 1 > buffer->room) {
        buffer->room = 2 * (buffer->length + more) + 64;
        buffer->bytes = fr_cli_grow(buffer->bytes, buffer->room, 1);
    }
    return buffer->bytes + buffer->length;
}

static void append(text_buffer *buffer, const char *bytes, size_t length) {
    char *to = reserve(buffer, length);
    memcpy(to, bytes, length);
    buffer->length += length;
    to[length] = 0;
}

static void add_raw(cJSON *to, const char *key, text_buffer *buffer) {
    fr_doc_add(to, key, cJSON_CreateRaw(buffer->bytes));
    free(buffer->bytes);
}

void fr_doc_bytes(cJSON *to, const char *key, const char *text, size_t length) {
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* byte, letter after the backslash */
    text_buffer buffer = {NULL, 0, 0};
    append(&buffer, "\"", 1);
    for (size_t i = 0; i < length;) {
        size_t character = fr_cli_utf8_length(text + i, length - i);
        const char *letter = NULL;
        for (size_t j = 0; j + 1 < sizeof named && !letter; j += 2)
            if (named[j] == text[i]) letter = &named[j + 1];
        if (letter) {
            append(&buffer, (char[2]){'\\', *letter}, 2);
        } else if (character == 1 && (unsigned char)text[i] < 0x20) {
            char code[8];
            append(&buffer, code, (size_t)snprintf(code, sizeof code, "\\u%04x", (unsigned)text[i]));
        } else if (character == 0) {
            append(&buffer, "\xEF\xBF\xBD", 3);
        } else {
            append(&buffer, text + i, character);
        }
        i += character ? character : 1;
    }
    append(&buffer, "\"", 1);
    add_raw(to, key, &buffer);
}

void fr_doc_ids(cJSON *to, const char *key, const int32_t *ids, size_t count) {
    text_buffer buffer = {NULL, 0, 0};
    append(&buffer, "[", 1);
    for (size_t i = 0; i < count; i++)
        buffer.length += (size_t)snprintf(reserve(&buffer, 24), 24, "%s%" PRId32, i ? ", " : "", ids[i]);
    append(&buffer, "]", 1);
    add_raw(to, key, &buffer);
}

void fr_doc_counts(cJSON *to, const char *key, const uint64_t *values, size_t count) {
    text_buffer buffer = {NULL, 0, 0};
    append(&buffer, "[", 1);
    for (size_t i = 0; i < count; i++)
        buffer.length += (size_t)snprintf(reserve(&buffer, 32), 32, "%s%" PRIu64, i ? ", " : "", values[i]);
    append(&buffer, "]", 1);
    add_raw(to, key, &buffer);
}

void fr_doc_reals(cJSON *to, const char *key, const double *values, size_t count) {
    text_buffer buffer = {NULL, 0, 0};
    append(&buffer, "[", 1);
    for (size_t i = 0; i < count; i++) {
        if (i) append(&buffer, ", ", 2);
        if (isfinite(values[i]))
            buffer.length += (size_t)snprintf(reserve(&buffer, 32), 32, "%.10g", values[i]);
        else
            append(&buffer, "null", 4);
    }
    append(&buffer, "]", 1);
    add_raw(to, key, &buffer);
}

/* ---- Documents --------------------------------------------------------------------------------------------- */

void fr_doc_add(cJSON *to, const char *key, cJSON *item) {
    bool added = item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item));
    if (!added) exit(fr_cli_error(FR_EXIT_FAILED, "memory: not enough for the JSON document"));
}

cJSON *fr_doc_object(void) {
    cJSON *object = cJSON_CreateObject();
    if (!object) exit(fr_cli_error(FR_EXIT_FAILED, "memory: not enough for the JSON document"));
    return object;
}

cJSON *fr_doc_add_object(cJSON *to, const char *key) {
    cJSON *object = fr_doc_object();
    fr_doc_add(to, key, object);
    return object;
}

cJSON *fr_doc_add_array(cJSON *to, const char *key) {
    cJSON *array = cJSON_CreateArray();
    fr_doc_add(to, key, array);
    return array;
}

void fr_doc_real(cJSON *to, const char *key, double value) {
    fr_doc_add(to, key, isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull());
}

void fr_doc_ratio(cJSON *to, const char *key, double numerator, double denominator) {
    if (denominator == 0)
        fr_doc_null(to, key);
    else
        fr_doc_real(to, key, numerator / denominator);
}

void fr_doc_count(cJSON *to, const char *key, uint64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    fr_doc_add(to, key, cJSON_CreateRaw(digits));
}

void fr_doc_bool(cJSON *to, const char *key, bool value) {
    fr_doc_add(to, key, cJSON_CreateBool(value));
}

void fr_doc_null(cJSON *to, const char *key) {
    fr_doc_add(to, key, cJSON_CreateNull());
}

void fr_doc_text(cJSON *to, const char *key, const char *text) {
    if (text)
        fr_doc_bytes(to, key, text, strlen(text));
    else
        fr_doc_null(to, key);
}

void fr_doc_print(cJSON *document) {
    char *text = cJSON_Print(document);
    if (!text) exit(fr_cli_error(FR_EXIT_FAILED, "memory: not enough for the JSON document"));
    fputs(text, stdout);
    fputc('\n', stdout);
    cJSON_free(text);
    cJSON_Delete(document);
}

void fr_doc_texts(cJSON *to, const char *key, const char *const *texts, size_t count) {
    cJSON *array = fr_doc_add_array(to, key);
    for (size_t i = 0; i < count; i++) fr_doc_text(array, NULL, texts[i]);
}

cJSON *fr_doc_biases(const fr_logit_bias *biases, size_t count) {
    cJSON *object = fr_doc_object();
    for (size_t i = 0; i < count; i++) {
        char token[16];
        snprintf(token, sizeof token, "%d", (int)biases[i].token);
        if (isinf(biases[i].bias))
            fr_doc_text(object, token, "-inf"); /* the other one cannot be given */
        else
            fr_doc_real(object, token, (double)biases[i].bias);
    }
    return object;
}

/* ---- Objects that several commands share --------------------------------------------------------------------- */

/* `text` is indented as if it stood alone: each line but the first goes one step in. */
static void append_indented(text_buffer *buffer, const char *text) {
    for (; *text; text++) append(buffer, *text == '\n' ? "\n\t" : text, *text == '\n' ? 2 : 1);
}

void fr_doc_speculation(cJSON *to, const fr_stats *stats, const fr_policy_info *policy, int depth) {
    text_buffer buffer = {NULL, 0, 0};
    fr_error error = {FR_OK, "", ""};
    char *json;
    if (fr_speculation_json(stats, policy, depth, &json, &error) != FR_OK) exit(fr_cli_failure(&error));
    append_indented(&buffer, json);
    fr_free(json);
    add_raw(to, "speculative_decoding", &buffer);
}

cJSON *fr_doc_plan(const fr_memory_plan *plan, bool fits) {
    cJSON *object = fr_doc_object();
    fr_doc_text(object, "weights", fr_weights_word(plan->weights));
    fr_doc_count(object, "weight_bytes", plan->weight_bytes);
    fr_doc_count(object, "table_bytes", plan->table_bytes);
    fr_doc_count(object, "draft_head_bytes", plan->draft_head_bytes);
    fr_doc_count(object, "ctx", (uint64_t)plan->ctx);
    fr_doc_count(object, "kv_bytes", plan->session.kv_bytes);
    fr_doc_count(object, "mtp_kv_bytes", plan->session.mtp_kv_bytes);
    fr_doc_count(object, "workspace_bytes", plan->session.workspace_bytes);
    fr_doc_count(object, "private_bytes", plan->private_bytes);
    fr_doc_count(object, "total_bytes", plan->total_bytes);
    if (plan->available_bytes)
        fr_doc_count(object, "available_bytes", plan->available_bytes);
    else
        fr_doc_null(object, "available_bytes");
    fr_doc_bool(object, "fits", fits);
    fr_doc_bool(object, "all_fits", plan->all_fits);
    return object;
}

/* Anonymous memory of the process that lies in huge pages, as the system counts it; null where it does not tell. */
static void add_huge_pages(cJSON *to) {
    char line[256];
    uint64_t kib;
    bool told = false;
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    while (file && !told && fgets(line, sizeof line, file)) told = sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1;
    if (file) fclose(file);
    if (told)
        fr_doc_count(to, "huge_page_bytes", kib << 10);
    else
        fr_doc_null(to, "huge_page_bytes");
}

cJSON *fr_doc_memory(const fr_model_info *info, const fr_session *session) {
    cJSON *object = fr_doc_object();
    fr_memory memory = {0, 0, 0};
    struct rusage usage;
    if (session) fr_session_get_memory(session, &memory);
    fr_doc_count(object, "weight_bytes", info->weight_bytes);
    fr_doc_count(object, "private_bytes", info->private_bytes);
    fr_doc_count(object, "kv_bytes", memory.kv_bytes);
    fr_doc_count(object, "mtp_kv_bytes", memory.mtp_kv_bytes);
    fr_doc_count(object, "workspace_bytes", memory.workspace_bytes);
    fr_doc_add(object, "plan", fr_doc_plan(&info->plan, true));
    add_huge_pages(object);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        fr_doc_count(object, "peak_rss_bytes", (uint64_t)usage.ru_maxrss * 1024);
    else
        fr_doc_null(object, "peak_rss_bytes");
    return object;
}

/* ---- Numbers for people -------------------------------------------------------------------------------------- */

static char *next_buffer(void) {
    static char buffers[4][40];
    static int turn;
    turn = (turn + 1) % 4;
    return buffers[turn];
}

const char *fr_cli_grouped(uint64_t value) {
    char digits[24], *text = next_buffer(), *to = text;
    int length = snprintf(digits, sizeof digits, "%" PRIu64, value);
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return text;
}

static const char *scaled(double value, double step, const char *const *units, int count) {
    char *text = next_buffer();
    int unit = 0;
    while (value >= step && unit + 1 < count) {
        value /= step;
        unit++;
    }
    snprintf(text, 40, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
    return text;
}

const char *fr_cli_size(uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    return scaled((double)bytes, 1024, units, 6);
}

void fr_cli_plan_text(const fr_memory_plan *plan, char *text, size_t size) {
    size_t used = 0;
    const struct {
        const char *what;
        uint64_t bytes;
    } parts[] = {
        {"draft head", plan->draft_head_bytes},
        {"KV", plan->session.kv_bytes + plan->session.mtp_kv_bytes},
        {"workspace", plan->session.workspace_bytes},
    };
    const char *how = plan->weights == FR_WEIGHTS_COPY ? "copied" : "mapped";
    used += (size_t)snprintf(text, size, "weights %s %s", fr_cli_size(plan->weight_bytes), how);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && used < size; i++) {
        if (parts[i].bytes == 0) continue;
        used += (size_t)snprintf(text + used, size - used, ", %s %s", parts[i].what, fr_cli_size(parts[i].bytes));
        if (i == 1 && used < size)
            used += (size_t)snprintf(text + used, size - used, " for %s tokens", fr_cli_grouped((uint64_t)plan->ctx));
    }
    if (used < size) used += (size_t)snprintf(text + used, size - used, "; %s to allocate", fr_cli_size(plan->private_bytes));
    if (used < size && plan->available_bytes)
        snprintf(text + used, size - used, ", %s available", fr_cli_size(plan->available_bytes));
}

const char *fr_cli_short(uint64_t value) {
    static const char *const units[] = {"", "K", "M", "B", "T"};
    return scaled((double)value, 1000, units, 5);
}
