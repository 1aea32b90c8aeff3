/* Reports made of a study's document. A document may come from a file, so nothing in it is taken for granted: what is absent,
 * null or of another type is left out of the report. Private to study/; the face is fr_study_html and fr_study_csv. */
#ifndef FR_STUDY_REPORT_REPORT_H
#define FR_STUDY_REPORT_REPORT_H

#include "forerun_study.h"
#include "study/report/svg.h"
#include "study/report/views.h"

/* ---- Reading a document: study/report/report.c ---- */

#define FR_SCHEMA_ACCEPT "forerun.accept/1"
#define FR_SCHEMA_AB "forerun.ab/1"
/* Parses it and checks its schema. *document: cJSON_Delete. */
fr_status fr_report_parse(const char *json, cJSON **document, fr_error *error);
bool fr_report_is(const cJSON *document, const char *schema);
/* The path of a part at the document's top or else in its first configuration. */
#define FR_PART(key) key "|configurations.0." key

/* ---- Writing a page: study/report/page.c ---- */

/* The series of the plot that is being put together. */
typedef struct fr_chart {
    fr_series series[FR_PLOT_SERIES];
    fr_point *points[FR_PLOT_SERIES]; /* of the series, and of the one to come; from fr_alloc */
    int count;
} fr_chart;

typedef struct fr_report {
    const cJSON *document;
    fr_markup body, contents; /* contents: the list of sections */
    int figures;
    fr_chart chart;
} fr_report;

void fr_page_begin(fr_markup *m, const char *title); /* head, style; up to the main part */
void fr_page_end(fr_markup *m);                      /* script */

/* Figures, tables and paragraphs that follow belong to the section. It ends the one before. id is its anchor. */
void fr_section_begin(fr_report *r, const char *id, const char *title);
void fr_section_end(fr_report *r); /* of the last one */
void fr_section_note(fr_report *r, const char *text);
void fr_figures_begin(fr_report *r); /* side by side where there is room */
void fr_figures_end(fr_report *r);

/* A headline figure: value with its interval (NaN: none), what it is, and a line about it (may be NULL). */
void fr_tile(fr_report *r, const char *name, double value, double low, double high, fr_unit unit, const char *note);
/* A box that says how to take the figures. good: or a warning. */
void fr_report_notice(fr_report *r, bool good, const char *title, const char *text);

/* ---- Plots: study/report/plot.c ---- */

/* Room for `most` points of one more series. NULL: there are as many as can be told apart, or there is no memory. */
fr_point *fr_chart_room(fr_report *r, int most);
/* Makes a series of the first `count` points there; of 0 none. The name is not copied. */
void fr_chart_add(fr_report *r, const char *name, fr_mark mark, int count);
/* Adds a series of an array's items, by the paths of x, y and the interval of y (NULL: none). Items without a number are left
 * out. */
void fr_chart_add_array(fr_report *r, const char *name, fr_mark mark, const cJSON *array, const char *x, const char *y,
                        const char *interval);
/* The largest of the x that the first `count` series end at. */
double fr_chart_end(const fr_report *r, int count);
/* Draws the series, if there are any, as `plot` says, and begins anew. */
void fr_chart_draw(fr_report *r, fr_plot plot);
void fr_chart_clear(fr_report *r);

fr_axis fr_position_axis(double last); /* of positions in a draft, from 1 */

/* Rows of a plot; tables have all. */
enum { FR_MOST_ROWS = 40 };
typedef struct fr_rows {
    fr_row rows[FR_MOST_ROWS];
    char names[FR_MOST_ROWS][FR_NAME_BYTES];
    int count;
    bool unknown; /* rows without a value are drawn as well */
} fr_rows;
/* Adds the items of a view until there are `most` rows: the name, and the first figure that has an interval. */
void fr_rows_add(fr_rows *rows, const fr_view *view, const cJSON *array, int most);
/* Draws the rows, if there are any, as `plot` says. */
void fr_report_rows(fr_report *r, const fr_rows *rows, fr_row_plot plot);

/* ---- Tables: study/report/table.c ---- */

void fr_table_begin(fr_report *r, const fr_view *view);
void fr_table_row(fr_report *r, const fr_view *view, const cJSON *item);
void fr_table_end(fr_report *r);
void fr_report_table(fr_report *r, const fr_view *view, const cJSON *array);
/* A view's figures of one object, those that it has, one below the other. */
void fr_report_list(fr_report *r, const fr_view *view, const char *heading, const cJSON *object);

/* ---- What there is to show: study/report/accept.c, ab.c, compare.c, environment.c ---- */

void fr_report_accept(fr_report *r);
void fr_report_ab(fr_report *r);
void fr_report_compare(fr_report *r); /* nothing without a part "compare" */
void fr_report_environment(fr_report *r);
/* Table of the array `results`, for both studies. */
void fr_report_prompts(fr_report *r);

#endif
