/* Reports made of a study's document. A document may come from a file, so nothing in it is taken for granted: what is absent,
 * null or of another type is left out of the report. Private to study/; the face is fr_study_html and fr_study_csv. */
#ifndef FR_STUDY_REPORT_REPORT_H
#define FR_STUDY_REPORT_REPORT_H

#include <cJSON.h>

#include "forerun_study.h"
#include "study/report/svg.h"

/* ---- Reading a document: study/report/report.c ---- */

/* Parses it and looks at its schema. *document: cJSON_Delete. */
fr_status fr_report_parse(const char *json, cJSON **document, fr_error *error);

/* A part that stands at the document's top or else in its first configuration; NULL: there is none. */
const cJSON *fr_report_part(const cJSON *document, const char *key);
/* Writes a value as escaped text: numbers with up to six digits, arrays with commas, a dash for null. */
void fr_report_plain(fr_markup *m, const cJSON *value);

/* The acceptance of an object: its rate, and its interval where the document has one. (None is made up from counts: drafts of
 * one cycle are not independent.) */
void fr_report_acceptance(const cJSON *object, double *rate, double *low, double *high);
/* That of a configuration (NULL: none), whose interval stands beside its counters `speculation`, not among them. */
void fr_report_configuration(const cJSON *configuration, const cJSON *speculation, double *rate, double *low, double *high);
/* Points of a speculative_decoding object by position; returns how many (at most `most`). */
int fr_report_positions(const cJSON *speculation, fr_point *points, int most);

/* ---- Writing a page: study/report/page.c ---- */

typedef struct fr_report {
    const cJSON *document;
    fr_markup body, contents; /* contents: the list of sections */
    int figures;
    bool in_row;
} fr_report;

void fr_page_begin(fr_markup *m, const char *title); /* head, style; up to the main part */
void fr_page_end(fr_markup *m);                      /* script */

/* Between begin and end stand figures, tables and paragraphs. id is the section's anchor. */
void fr_section_begin(fr_report *r, const char *id, const char *title);
void fr_section_end(fr_report *r);
void fr_section_note(fr_report *r, const char *text);
void fr_figures_begin(fr_report *r); /* that stand side by side where there is room */
void fr_figures_end(fr_report *r);
void fr_report_plot(fr_report *r, const fr_plot *plot);
void fr_report_row_plot(fr_report *r, const fr_row_plot *plot);

/* A headline figure: value with its interval (NaN: none), what it is, and a line about it (may be NULL). */
void fr_tile(fr_report *r, const char *name, double value, double low, double high, fr_unit unit, const char *note);
/* A box that says how the figures are to be taken. good: or a warning. */
void fr_notice(fr_report *r, bool good, const char *title, const char *text);

/* Tables: headings, then rows of as many cells. */
typedef struct fr_heading {
    const char *text;
    bool number;
} fr_heading;
void fr_table_begin(fr_report *r, const char *caption, const fr_heading *headings, int count, bool sorts);
void fr_table_row(fr_report *r);
void fr_table_text(fr_report *r, const char *text);
void fr_table_token(fr_report *r, const char *text);
void fr_table_number(fr_report *r, double value, fr_unit unit);
void fr_table_interval(fr_report *r, double low, double high, fr_unit unit);
void fr_table_end(fr_report *r);

/* ---- What there is to show: study/report/accept.c, study/report/ab.c, study/report/compare.c, study/report/environment.c ----
 */

void fr_report_accept(fr_report *r);
void fr_report_ab(fr_report *r);
void fr_report_compare(fr_report *r); /* nothing without a part "compare" */
void fr_report_environment(fr_report *r);
/* Table of the array `results`, for both studies. */
void fr_report_prompts(fr_report *r);

#endif
