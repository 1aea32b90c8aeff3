/* Plots as inline SVG in an HTML figure: axes with units, intervals, a legend, a description for who cannot see it. Colours
 * come from the page's style (classes s0 to s5); series differ in the shape of their marks and the dashes of their lines as
 * well. Coordinates of points are the data's. NAN is "unknown": such points, bounds and references are not drawn.
 * Private to study/. */
#ifndef FR_STUDY_REPORT_SVG_H
#define FR_STUDY_REPORT_SVG_H

#include "study/report/markup.h"
#include "study/report/unit.h"

enum { FR_PLOT_SERIES = 6 }; /* that can be told apart */

typedef struct fr_point {
    double x, y;
    double low, high; /* of y */
} fr_point;

typedef enum fr_mark {
    FR_MARK_LINE, /* points joined by a line */
    FR_MARK_DOTS,
    FR_MARK_CURVE, /* a line alone */
    FR_MARK_STEPS, /* a histogram: y from this point's x to the next one's; the last y is not drawn */
    FR_MARK_BARS,
} fr_mark;

typedef struct fr_series {
    const char *name;
    fr_mark mark;
    const fr_point *points;
    int count;
} fr_series;

typedef struct fr_axis {
    const char *label; /* with its unit */
    fr_unit unit;
    double low, high; /* both 0: what the data need */
    bool whole;       /* ticks at whole numbers only */
    bool log;
    const char *const *names; /* [high]: of the whole numbers from 1; NULL: numbers */
} fr_axis;

/* A line across the plot. */
typedef struct fr_reference {
    double at;
    bool vertical;     /* at an x */
    const char *label; /* may be NULL */
} fr_reference;

typedef struct fr_plot {
    const char *title, *note; /* note: below the plot; may be NULL */
    const char *interval;     /* what low and high are; NULL: "95 %" */
    fr_axis x, y;
    const fr_series *series;
    int num_series; /* those beyond FR_PLOT_SERIES are not drawn */
    const fr_reference *references;
    int num_references;
    bool diagonal; /* y = x */
} fr_plot;

/* number: of this figure in its page, from 1. */
void fr_plot_draw(fr_markup *m, const fr_plot *plot, int number);

/* Rows of one value each, with its interval: names to the left or, if long, above. */
typedef struct fr_row {
    const char *name;
    double value, low, high;
} fr_row;

typedef struct fr_row_plot {
    const char *title, *note, *interval;
    fr_axis x;
    const fr_row *rows;
    int num_rows;
    const fr_reference *references; /* vertical all */
    int num_references;
} fr_row_plot;

void fr_row_plot_draw(fr_markup *m, const fr_row_plot *plot, int number);

#endif
