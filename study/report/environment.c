/* What ran, on what, how to repeat it; and the table of prompts. Both studies have them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "study/report/report.h"

static bool is_scalar_list(const cJSON *value) {
    const cJSON *item;
    cJSON_ArrayForEach(item, value) {
        if (cJSON_IsObject(item) || cJSON_IsArray(item)) return false;
    }
    return true;
}

/* Keys and values of an object, one a line; objects in it follow with their own heading. Depth is bounded by the
 * parser. */
static void add_list(fr_markup *m, const cJSON *object, const char *title) {
    const cJSON *item;
    bool any = false;
    cJSON_ArrayForEach(item, object) {
        if (cJSON_IsObject(item) || (cJSON_IsArray(item) && !is_scalar_list(item))) continue;
        if (!any) {
            fr_markup_raw(m, "<div><h3>");
            fr_markup_text(m, title);
            fr_markup_raw(m, "</h3><dl>\n");
        }
        any = true;
        fr_markup_raw(m, "<dt>");
        fr_markup_text(m, item->string);
        fr_markup_raw(m, "</dt><dd>");
        fr_report_plain(m, item);
        fr_markup_raw(m, "</dd>\n");
    }
    if (any) fr_markup_raw(m, "</dl></div>\n");
    cJSON_ArrayForEach(item, object) {
        if (cJSON_IsObject(item)) add_list(m, item, item->string);
    }
}

static void add_command(fr_report *r) {
    const cJSON *command = fr_json_find_array(r->document, "command"), *word;
    fr_markup line = {NULL, 0, 0, false};
    if (!command) return;
    cJSON_ArrayForEach(word, command) {
        if (!cJSON_IsString(word)) continue;
        if (word != command->child) fr_markup_raw(&line, " ");
        fr_markup_shell(&line, word->valuestring);
    }
    fr_markup_raw(&r->body, "<p>To repeat it:</p>\n<pre><code>");
    fr_markup_text(&r->body, line.bytes);
    fr_markup_raw(&r->body, "</code></pre>\n");
    r->body.failed |= line.failed;
    fr_markup_release(&line);
}

void fr_report_environment(fr_report *r) {
    const cJSON *environment = fr_json_find_object(r->document, "environment");
    if (!environment && !fr_json_find_array(r->document, "command")) return;
    fr_section_begin(r, "environment", "Environment");
    add_command(r);
    if (environment) {
        fr_markup_raw(&r->body, "<div class=\"columns\">\n");
        add_list(&r->body, environment, "machine and build");
        fr_markup_raw(&r->body, "</div>\n");
    }
    fr_section_end(r);
}

/* ---- Prompts ---------------------------------------------------------------------------------------------------- */

enum { MOST_ARMS = 12 };

typedef struct column {
    const char *key, *heading;
    fr_unit unit;
} column;

/* Columns that some row has a number for are shown. */
static bool has_number(const cJSON *results, const char *key) {
    const cJSON *row;
    cJSON_ArrayForEach(row, results) {
        if (isfinite(fr_json_find_number(row, key))) return true;
    }
    return false;
}

static bool has_string(const cJSON *results, const char *key) {
    const cJSON *row;
    cJSON_ArrayForEach(row, results) {
        if (fr_json_find_string(row, key)) return true;
    }
    return false;
}

/* Names of the objects under `key`, as the first row that has it orders them. */
static int names_under(const cJSON *results, const char *key, const char **names) {
    const cJSON *row, *item;
    int count = 0;
    cJSON_ArrayForEach(row, results) {
        const cJSON *under = fr_json_find_object(row, key);
        if (!under) continue;
        cJSON_ArrayForEach(item, under) {
            if (count < MOST_ARMS) names[count++] = item->string;
        }
        break;
    }
    return count;
}

static const column columns[] = {
    {"prompt_tokens", "prompt tokens", FR_UNIT_COUNT},
    {"tokens", "tokens", FR_UNIT_COUNT},
    {"drafted", "drafted", FR_UNIT_COUNT},
    {"accepted", "accepted", FR_UNIT_COUNT},
    {"acceptance_rate", "acceptance", FR_UNIT_PERCENT},
    {"mean_acceptance_length", "length", FR_UNIT_PLAIN},
};
enum { NUM_COLUMNS = sizeof columns / sizeof *columns };

void fr_report_prompts(fr_report *r) {
    const cJSON *results = fr_report_part(r->document, "results"), *row;
    const char *arms[MOST_ARMS], *speedups[MOST_ARMS];
    fr_heading headings[3 + NUM_COLUMNS + 2 * MOST_ARMS] = {{"prompt", false}};
    char names[2 * MOST_ARMS][96];
    bool shown[NUM_COLUMNS], domain = has_string(results, "domain");
    int count = 1, num_arms = names_under(results, "arms", arms), num_speedups = names_under(results, "speedup", speedups);
    if (!cJSON_IsArray(results) || !results->child) return;
    if (domain) headings[count++] = (fr_heading){"domain", false};
    for (int i = 0; i < NUM_COLUMNS; i++)
        if ((shown[i] = has_number(results, columns[i].key))) headings[count++] = (fr_heading){columns[i].heading, true};
    for (int i = 0; i < num_arms; i++) {
        snprintf(names[i], sizeof names[i], "%.60s, tokens/s", arms[i]);
        headings[count++] = (fr_heading){names[i], true};
    }
    for (int i = 0; i < num_speedups; i++) {
        snprintf(names[MOST_ARMS + i], sizeof names[i], "%.60s, speedup", speedups[i]);
        headings[count++] = (fr_heading){names[MOST_ARMS + i], true};
    }
    fr_section_begin(r, "prompts", "Prompts");
    fr_table_begin(r, "Each prompt; the headings sort", headings, count, true);
    cJSON_ArrayForEach(row, results) {
        const cJSON *in_arms = fr_json_find_object(row, "arms"), *speedup = fr_json_find_object(row, "speedup");
        fr_table_row(r);
        fr_table_text(r, fr_json_find_string(row, "id"));
        if (domain) fr_table_text(r, fr_json_find_string(row, "domain"));
        for (int i = 0; i < NUM_COLUMNS; i++)
            if (shown[i]) fr_table_number(r, fr_json_find_number(row, columns[i].key), columns[i].unit);
        for (int i = 0; i < num_arms; i++)
            fr_table_number(r, fr_json_find_number(fr_json_find_object(in_arms, arms[i]), "decode_tokens_per_s"), FR_UNIT_PLAIN);
        for (int i = 0; i < num_speedups; i++) fr_table_number(r, fr_json_find_number(speedup, speedups[i]), FR_UNIT_TIMES);
    }
    fr_table_end(r);
    fr_section_end(r);
}
