/* What the studies' documents have to show, as data. A view is an array of a document as a table: its columns say where an item
 * has a figure and how to write it. Three renderers walk the views: cli/view.c (the terminal), study/report/table.c (the page)
 * and study/report/csv.c. Plots and sentences are each medium's own. Private to study/ and cli/. */
#ifndef FR_STUDY_REPORT_VIEWS_H
#define FR_STUDY_REPORT_VIEWS_H

#include <stdbool.h>

#include "core/json_path.h"
#include "study/report/unit.h"

typedef enum fr_cell {
    FR_CELL_NUMBER,
    FR_CELL_TEXT,
    FR_CELL_TOKEN,   /* a token's text, in which white space matters */
    FR_CELL_SPEED,   /* an arm's name, of its speed: "auto, tokens/s" */
    FR_CELL_PAIR,    /* the arms of a comparison: "b over a" */
    FR_CELL_RANGE,   /* "from" and "to" */
    FR_CELL_OF,      /* a count and what it is of: "2 of 48" */
    FR_CELL_VERDICT, /* as the document says, or else by the interval of the speedup */
} fr_cell;

typedef struct fr_column {
    const char *path;                  /* of the value, from an item; NULL in a first column: items have no names */
    const char *terminal, *page, *csv; /* headings, of CSV the measure; NULL: not shown there */
    fr_unit unit;
    const char *interval; /* path of the value's [low, high], at 95 %; NULL: none */
    const char *n;        /* path of what the value is a share of; NULL: none */
    fr_cell kind;
    int digits;            /* in the terminal, behind the point; 0: as the unit has them; -1: as many as it takes ("%g") */
    bool bar;              /* in the terminal, of the value and its interval */
    const char *p05_p95;   /* path of {"p05", "p95"}, one more column of the page; NULL: none */
    const char *otherwise; /* the page's word for a text that is not there */
    const char *in, *of;   /* the path leads on from the key `of`, any text, of the object at `in`; NULL: from the item */
} fr_column;

typedef struct fr_view {
    const fr_column *columns; /* the first one names an item */
    int num_columns;
    const char *array;          /* path */
    bool one;                   /* it leads to an object, which is the only item */
    const char *title;          /* above the terminal's table; NULL: none */
    const char *counted;        /* path: the terminal leaves out items of which this is 0; NULL: none */
    const char *caption;        /* above the page's */
    bool sorts;                 /* the page's table, by its headings */
    const char *table;          /* what CSV calls it */
    bool configuration;         /* CSV: items are configurations or arms, not parts of one */
    const char *const *besides; /* CSV: all numbers of an item, but not of these keys (up to NULL); NULL: only columns */
} fr_view;

/* Of forerun.ab/1. Paths of arrays begin at the document. */
extern const fr_view fr_view_arms, fr_view_comparisons, fr_view_noise, fr_view_synthetic, fr_view_cost, fr_view_cost_arms,
    fr_view_curve, fr_view_compared_arms, fr_view_compared_speedups;
/* Of forerun.accept/1. Paths begin at a configuration; those of fr_view_configurations, fr_view_pairs and fr_view_overlap at the
 * document. */
extern const fr_view fr_view_configurations, fr_view_along_cycles, fr_view_positions, fr_view_domains, fr_view_context,
    fr_view_calibration, fr_view_bins, fr_view_rejected, fr_view_overlap, fr_view_overlap_layers, fr_view_ways, fr_view_pairs;
/* Of both; the path begins at the document. */
extern const fr_view fr_view_pooling;

enum { FR_NAME_BYTES = 160 };

double fr_column_number(const fr_column *column, const cJSON *item);
void fr_column_interval(const fr_column *column, const cJSON *item, double *low, double *high); /* NaN: there is none */
/* What the page says in a column of texts; NULL: nothing. It is the document's or in `text` [FR_NAME_BYTES]. */
const char *fr_column_text(const fr_column *column, const cJSON *item, char *text);

#endif
