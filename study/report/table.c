/* Views as tables of a page. */
#include <math.h>

#include "study/report/report.h"

/* ---- Cells ---- */

static void add_heading(fr_markup *m, const char *text, bool number, bool sorts) {
    fr_markup_format(m, "<th scope=\"col\"%s>%s", number ? " class=\"n\"" : "", sorts ? "<button type=\"button\">" : "");
    fr_markup_text(m, text);
    fr_markup_raw(m, sorts ? "</button></th>" : "</th>");
}

static void add_text(fr_markup *m, const char *text) {
    fr_markup_raw(m, "<td><bdi>");
    fr_markup_text(m, text);
    fr_markup_raw(m, "</bdi></td>");
}

static void add_token(fr_markup *m, const char *text) {
    fr_markup_raw(m, "<td><code><bdi>");
    fr_markup_token(m, text);
    fr_markup_raw(m, "</bdi></code></td>");
}

/* The page's script sorts by `value`. */
static void add_number(fr_markup *m, double value, const char *text) {
    fr_markup_raw(m, "<td class=\"n\"");
    if (isfinite(value)) fr_markup_format(m, " data-v=\"%.10g\"", value);
    fr_markup_format(m, ">%s</td>", text);
}

static void add_interval(fr_markup *m, double low, double high, fr_unit unit) {
    char text[72];
    add_number(m, isfinite(high) ? low : NAN, fr_range_text(low, high, unit, text));
}

static void add_cells(fr_markup *m, const fr_column *c, const cJSON *item) {
    char text[FR_NAME_BYTES];
    double low, high, value = fr_column_number(c, item);
    if (c->kind == FR_CELL_TOKEN) {
        add_token(m, fr_path_text(item, c->path));
    } else if (c->kind != FR_CELL_NUMBER) {
        add_text(m, fr_column_text(c, item, text));
    } else {
        add_number(m, value, fr_unit_text(value, c->unit, text));
        fr_column_interval(c, item, &low, &high);
        if (c->interval) add_interval(m, low, high, c->unit);
        const cJSON *spread = c->p05_p95 ? fr_path_value(item, c->p05_p95) : NULL;
        if (c->p05_p95) add_interval(m, fr_path_number(spread, "p05"), fr_path_number(spread, "p95"), c->unit);
    }
}

/* ---- Tables ---- */

static void begin(fr_markup *m, const fr_view *view) {
    fr_markup_format(m, "<div class=\"scroll%s\" tabindex=\"0\" role=\"region\" aria-label=\"", view->sorts ? " tall" : "");
    fr_markup_text(m, view->caption);
    fr_markup_format(m, "\"><table%s><caption>", view->sorts ? " class=\"sorts\"" : "");
    fr_markup_text(m, view->caption);
    fr_markup_raw(m, "</caption>\n<thead><tr>");
}

static void end_headings(fr_markup *m) {
    fr_markup_raw(m, "</tr></thead>\n<tbody>");
}

void fr_table_begin(fr_report *r, const fr_view *view) {
    begin(&r->body, view);
    for (const fr_column *c = view->columns; c < view->columns + view->num_columns; c++) {
        if (!c->page) continue;
        add_heading(&r->body, c->page, c->kind == FR_CELL_NUMBER, view->sorts);
        if (c->interval) add_heading(&r->body, "95 %", true, view->sorts);
        if (c->p05_p95) add_heading(&r->body, "p05 to p95", true, view->sorts);
    }
    end_headings(&r->body);
}

void fr_table_row(fr_report *r, const fr_view *view, const cJSON *item) {
    fr_markup_raw(&r->body, "\n<tr>");
    for (const fr_column *c = view->columns; c < view->columns + view->num_columns; c++)
        if (c->page) add_cells(&r->body, c, item);
    fr_markup_raw(&r->body, "</tr>");
}

void fr_table_end(fr_report *r) {
    fr_markup_raw(&r->body, "</tbody></table></div>\n");
}

void fr_report_table(fr_report *r, const fr_view *view, const cJSON *array) {
    const cJSON *item;
    fr_table_begin(r, view);
    cJSON_ArrayForEach(item, array) fr_table_row(r, view, item);
    fr_table_end(r);
}

void fr_report_list(fr_report *r, const fr_view *view, const char *heading, const cJSON *object) {
    begin(&r->body, view);
    add_heading(&r->body, heading, false, false);
    add_heading(&r->body, "value", true, false);
    end_headings(&r->body);
    for (const fr_column *c = view->columns; c < view->columns + view->num_columns; c++) {
        if (!c->page || !isfinite(fr_column_number(c, object))) continue;
        fr_markup_raw(&r->body, "\n<tr>");
        add_text(&r->body, c->page);
        add_cells(&r->body, c, object);
        fr_markup_raw(&r->body, "</tr>");
    }
    fr_table_end(r);
}
