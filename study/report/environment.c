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

/* Writes a value as escaped text: numbers with up to six digits, arrays with commas, a dash for null. */
static void add_plain(fr_markup *m, const cJSON *value) {
    if (cJSON_IsString(value)) {
        fr_markup_text(m, value->valuestring);
    } else if (cJSON_IsNumber(value)) {
        bool whole = value->valuedouble == floor(value->valuedouble) && fabs(value->valuedouble) < 1e15;
        fr_markup_format(m, whole ? "%.0f" : "%.6g", value->valuedouble);
    } else if (cJSON_IsBool(value)) {
        fr_markup_raw(m, cJSON_IsTrue(value) ? "yes" : "no");
    } else if (cJSON_IsArray(value)) {
        const cJSON *item;
        cJSON_ArrayForEach(item, value) {
            if (item != value->child) fr_markup_raw(m, ", ");
            add_plain(m, item);
        }
    } else {
        fr_markup_raw(m, "\xE2\x80\x93");
    }
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
        add_plain(m, item);
        fr_markup_raw(m, "</dd>\n");
    }
    if (any) fr_markup_raw(m, "</dl></div>\n");
    cJSON_ArrayForEach(item, object) {
        if (cJSON_IsObject(item)) add_list(m, item, item->string);
    }
}

static void add_command(fr_report *r) {
    const cJSON *command = fr_path_array(r->document, "command"), *word;
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

/* How figures are made of prompts, as the document says. */
static void add_pooling(fr_report *r) {
    const cJSON *figures = fr_path_array(r->document, fr_view_pooling.array);
    if (!figures) return;
    fr_section_begin(r, "statistics", "How figures are pooled");
    fr_report_table(r, &fr_view_pooling, figures);
}

void fr_report_environment(fr_report *r) {
    const cJSON *environment = fr_path_object(r->document, "environment");
    add_pooling(r);
    if (!environment && !fr_path_array(r->document, "command")) return;
    fr_section_begin(r, "environment", "Environment");
    add_command(r);
    if (environment) {
        fr_markup_raw(&r->body, "<div class=\"columns\">\n");
        add_list(&r->body, environment, "machine and build");
        fr_markup_raw(&r->body, "</div>\n");
    }
}

/* ---- Prompts ---------------------------------------------------------------------------------------------------- */

enum { MOST_ARMS = 12, HEADING_BYTES = 96 };

static const fr_column columns[] = {
    {"domain", .page = "domain", .kind = FR_CELL_TEXT},
    {"prompt_tokens", .page = "prompt tokens", .unit = FR_UNIT_COUNT},
    {"tokens", .page = "tokens", .unit = FR_UNIT_COUNT},
    {"drafted", .page = "drafted", .unit = FR_UNIT_COUNT},
    {"accepted", .page = "accepted", .unit = FR_UNIT_COUNT},
    {"acceptance_rate", .page = "acceptance", .unit = FR_UNIT_PERCENT},
    {"mean_acceptance_length", .page = "length"},
};
enum { NUM_COLUMNS = sizeof columns / sizeof *columns };

/* Whether some row has something in the column. */
static bool is_used(const fr_column *column, const cJSON *results) {
    const cJSON *row;
    cJSON_ArrayForEach(row, results) {
        if (column->kind == FR_CELL_TEXT ? fr_path_text(row, column->path) != NULL : isfinite(fr_column_number(column, row)))
            return true;
    }
    return false;
}

/* Adds a column like `like` for each key under like.in, as the first row that has such an object orders them; returns how many.
 */
static int add_columns(fr_column *to, char (*headings)[HEADING_BYTES], const cJSON *results, fr_column like) {
    const cJSON *row, *item, *under = NULL;
    int count = 0;
    cJSON_ArrayForEach(row, results) {
        if ((under = fr_path_object(row, like.in))) break;
    }
    cJSON_ArrayForEach(item, under) {
        if (count == MOST_ARMS) break;
        snprintf(headings[count], HEADING_BYTES, "%.60s, %s", item->string, like.page);
        to[count] = like;
        to[count].of = item->string;
        to[count].page = headings[count];
        count++;
    }
    return count;
}

void fr_report_prompts(fr_report *r) {
    const cJSON *results = fr_path_array(r->document, FR_PART("results"));
    fr_column list[1 + NUM_COLUMNS + 2 * MOST_ARMS] = {{"id", NULL, "prompt", .kind = FR_CELL_TEXT}};
    char headings[2 * MOST_ARMS][HEADING_BYTES];
    int count = 1;
    if (!results) return;
    for (int i = 0; i < NUM_COLUMNS; i++)
        if (is_used(&columns[i], results)) list[count++] = columns[i];
    count += add_columns(list + count, headings, results, (fr_column){"decode_tokens_per_s", .in = "arms", .page = "tokens/s"});
    count += add_columns(list + count, headings + MOST_ARMS, results,
                         (fr_column){.in = "speedup", .page = "speedup", .unit = FR_UNIT_TIMES});
    const fr_view view = {.columns = list, .num_columns = count, .caption = "Each prompt; the headings sort", .sorts = true};
    fr_section_begin(r, "prompts", "Prompts");
    fr_report_table(r, &view, results);
}
