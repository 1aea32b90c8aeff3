#include "cli/view.h"

#include <math.h>

#include "core/text_size.h"

/* Names, in the first column, are on the left, unless they are numbers. */
static fr_cli_align align_of(const fr_view *view, const fr_column *c) {
    const fr_column *first = view->columns;
    while (!first->terminal) first++;
    bool number = c->unit == FR_UNIT_COUNT || c->kind == FR_CELL_RANGE;
    return c == first && !number ? FR_ALIGN_LEFT : FR_ALIGN_RIGHT;
}

fr_cli_table *fr_cli_view_table(const fr_view *view, const char *title) {
    fr_cli_table *table = fr_cli_table_create(title ? title : view->title);
    for (const fr_column *c = view->columns; c < view->columns + view->num_columns; c++) {
        if (!c->terminal) continue;
        fr_cli_table_column(table, c->terminal, align_of(view, c));
        if (c->interval) fr_cli_table_column(table, "95 %", FR_ALIGN_RIGHT);
        if (c->bar) fr_cli_table_column(table, c->unit == FR_UNIT_TIMES ? "0 to longest" : "", FR_ALIGN_RIGHT);
    }
    return table;
}

/* What a whole bar is: 1 of shares; of speedups the largest end of an interval, at least 1. */
static double whole_bar(const fr_column *c, const cJSON *array) {
    const cJSON *item;
    double low, high, most = 1.0;
    if (c->unit == FR_UNIT_PERCENT) return most;
    cJSON_ArrayForEach(item, array) {
        fr_column_interval(c, item, &low, &high);
        if (high > most) most = high;
    }
    return most;
}

static void add_number(fr_cli_table *table, const fr_column *c, double value) {
    if (c->digits < 0)
        fr_cli_table_cell(table, "%g", value);
    else if (!isfinite(value))
        fr_cli_table_cell(table, "-");
    else if (c->digits > 0 || c->unit == FR_UNIT_PLAIN)
        fr_cli_table_cell(table, "%.*f", c->digits, value);
    else if (c->unit == FR_UNIT_PERCENT)
        fr_cli_table_percent(table, value);
    else if (c->unit == FR_UNIT_COUNT)
        fr_cli_table_cell(table, "%s", FR_TEXT_GROUPED((uint64_t)value));
    else
        fr_cli_table_cell(table, "%.3fx", value);
}

static void add_range(fr_cli_table *table, const fr_column *c, double from, double to) {
    if (c->unit == FR_UNIT_PERCENT)
        fr_cli_table_cell(table, "%.0f to %.0f %%", 100 * from, 100 * to);
    else
        fr_cli_table_cell(table, "%.0f to %.0f", from, to - 1);
}

const char *fr_cli_view_text(const cJSON *from, const char *path) {
    const char *text = fr_path_text(from, path);
    return text ? text : "";
}

const char *fr_cli_view_template(const cJSON *document, char *text) {
    double count = fr_path_number(document, "prompts.count"), in = fr_path_number(document, "prompts.in_chat_template");
    snprintf(text, 64,
             in == 0       ? "; no chat template"
             : in == count ? "; in the chat template"
                           : "; %.0f in the chat template",
             in);
    if (!isfinite(in)) text[0] = '\0';
    return text;
}

static void add_number_of(fr_cli_table *table, double value, double of) {
    if (!isfinite(value))
        fr_cli_table_cell(table, "-");
    else if (!isfinite(of))
        fr_cli_table_cell(table, "%.0f", value);
    else
        fr_cli_table_cell(table, "%.0f of %.0f", value, of);
}

static void add_cell(fr_cli_table *table, const fr_column *c, const cJSON *item) {
    switch (c->kind) {
    case FR_CELL_NUMBER:
        add_number(table, c, fr_column_number(c, item));
        break;
    case FR_CELL_RANGE:
        add_range(table, c, fr_path_number(item, "from"), fr_path_number(item, "to"));
        break;
    case FR_CELL_OF:
        add_number_of(table, fr_path_number(item, c->path), fr_path_number(item, c->n));
        break;
    case FR_CELL_PAIR:
        fr_cli_table_cell(table, "%s over %s", fr_cli_view_text(item, "b"), fr_cli_view_text(item, "a"));
        break;
    case FR_CELL_SPEED:
        fr_cli_table_cell(table, "%s, tokens/s", fr_cli_view_text(item, c->path));
        break;
    default:
        fr_cli_table_cell(table, "%s", fr_cli_view_text(item, c->path));
    }
}

static void add_row(fr_cli_table *table, const fr_view *view, const cJSON *array, const cJSON *item) {
    for (const fr_column *c = view->columns; c < view->columns + view->num_columns; c++) {
        double low, high;
        if (!c->terminal) continue;
        add_cell(table, c, item);
        fr_column_interval(c, item, &low, &high);
        if (c->interval) fr_cli_table_interval(table, low, high, c->unit == FR_UNIT_PERCENT ? 100 : 1);
        if (c->bar) fr_cli_table_bar(table, fr_column_number(c, item), low, high, whole_bar(c, array));
    }
}

void fr_cli_view_add(fr_cli_table *table, const fr_view *view, const cJSON *array) {
    const cJSON *item;
    cJSON_ArrayForEach(item, array) {
        if (!view->counted || fr_path_number(item, view->counted) != 0) add_row(table, view, array, item);
    }
}

void fr_cli_view_print(const fr_view *view, const char *title, const cJSON *array) {
    fr_cli_table *table = fr_cli_view_table(view, title);
    fr_cli_view_add(table, view, array);
    fr_cli_table_print(table, stdout);
    fr_cli_table_destroy(table);
}
