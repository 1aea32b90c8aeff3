#include "study/report/svg.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* All lengths are in units of the viewBox, which the page scales to the room that there is: at 12 units a letter can be
 * read on a telephone. */
enum { WIDTH = 520, HEIGHT = 300, LEFT = 58, RIGHT = 24, TOP = 30, BOTTOM = 46, MOST_TICKS = 16, DODGE = 9 };

typedef struct scale {
    double low, high; /* of the data; logarithms when log */
    double from, to;  /* in the drawing */
    bool log;
    double ticks[MOST_TICKS];
    int num_ticks;
} scale;

/* Ticks have as many digits as tell them apart. */
static const char *tick_text(double value, fr_unit unit, char *text) {
    if (unit == FR_UNIT_PERCENT)
        snprintf(text, 32, "%.4g %%", 100 * value);
    else if (unit == FR_UNIT_TIMES)
        snprintf(text, 32, "%.4g\xC3\x97", value);
    else
        snprintf(text, 32, "%.6g", value);
    return text;
}

/* ---- Scales ----------------------------------------------------------------------------------------------------- */

static double nice_step(double range, int ticks, bool whole) {
    double step = pow(10, floor(log10(range / ticks)));
    static const double factors[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (range / (step * factors[i]) <= ticks) {
            step *= factors[i];
            break;
        }
    return whole && step < 1 ? 1 : step;
}

static void linear_ticks(scale *s, int most, bool whole) {
    double step = nice_step(s->high - s->low, most, whole);
    for (double t = ceil(s->low / step - 1e-9) * step; t <= s->high + 1e-9 * step && s->num_ticks < MOST_TICKS; t += step)
        s->ticks[s->num_ticks++] = fabs(t) < 1e-9 * step ? 0 : t;
}

/* 1, 2, 5 of each power of ten, or the powers alone where these would be too many. */
static void log_ticks(scale *s) {
    static const double factors[] = {1, 2, 5};
    int step = s->high - s->low > 3 ? 3 : 1;
    for (int decade = (int)floor(s->low); decade <= (int)ceil(s->high); decade++)
        for (int i = 0; i < 3; i += step) {
            double t = decade + log10(factors[i]);
            if (t >= s->low - 1e-9 && t <= s->high + 1e-9 && s->num_ticks < MOST_TICKS) s->ticks[s->num_ticks++] = pow(10, t);
        }
}

static scale scale_of(const fr_axis *axis, double low, double high, double from, double to, int ticks) {
    scale s = {.from = from, .to = to, .log = axis->log && low > 0};
    if (axis->low != 0 || axis->high != 0) {
        low = axis->low;
        high = axis->high;
    }
    if (!(low <= high)) low = 0, high = 1;
    if (low == high) low -= 0.5, high += 0.5;
    s.low = s.log ? log10(low) : low;
    s.high = s.log ? log10(high) : high;
    if (s.log)
        log_ticks(&s);
    else
        linear_ticks(&s, ticks, axis->whole);
    return s;
}

static double place(const scale *s, double value) {
    double v = s->log ? log10(value) : value;
    v = v < s->low ? s->low : v > s->high ? s->high : v;
    return s->from + (v - s->low) / (s->high - s->low) * (s->to - s->from);
}

static bool inside(const scale *s, double value) {
    double v = s->log ? log10(value) : value, slack = 1e-9 * (s->high - s->low);
    return v >= s->low - slack && v <= s->high + slack;
}

static void widen(double *low, double *high, double value) {
    if (!isfinite(value)) return;
    if (value < *low) *low = value;
    if (value > *high) *high = value;
}

/* A little room at the ends, unless an end is 0. */
static void pad(double *low, double *high) {
    double room = 0.06 * (*high - *low);
    if (*low != 0) *low -= *low > 0 && *low < room ? *low : room;
    *high += room;
}

/* ---- What plots have in common ---------------------------------------------------------------------------------- */

static void open_figure(fr_markup *m, const char *title, int number, double height) {
    fr_markup_format(m, "<figure class=\"plot\"><h3 id=\"f%d\">", number);
    fr_markup_text(m, title);
    fr_markup_format(m, "</h3>\n<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-labelledby=\"f%d d%d\"><desc id=\"d%d\">", WIDTH,
                     height, number, number, number);
}

static void line(fr_markup *m, const char *class, double x1, double y1, double x2, double y2) {
    fr_markup_format(m, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", class, x1, y1, x2, y2);
}

static void text_at(fr_markup *m, const char *class, double x, double y, const char *text) {
    fr_markup_format(m, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", class, x, y);
    fr_markup_text(m, text);
    fr_markup_raw(m, "</text>");
}

/* Characters of UTF-8, which is as good as their width gets without a font. */
static int characters(const char *text) {
    int count = 0;
    for (; *text; text++) count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

/* A text of at most `most` characters, the rest of it three dots. */
static void short_text(fr_markup *m, const char *text, int most) {
    char part[256];
    size_t at = 0;
    int count = 0;
    bool cut = characters(text) > most;
    for (; *text && at + 8 < sizeof part; text++) {
        if (((unsigned char)*text & 0xC0) != 0x80 && count++ == (cut ? most - 1 : most)) break;
        part[at++] = *text;
    }
    part[at] = '\0';
    fr_markup_text(m, part);
    if (cut) fr_markup_raw(m, "\xE2\x80\xA6");
}

/* The mark of a series, by its shape. */
static void mark(fr_markup *m, int series, double x, double y) {
    switch (series % FR_PLOT_SERIES) {
    case 0:
        fr_markup_format(m, "<circle class=\"s0 dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>", x, y);
        break;
    case 1:
        fr_markup_format(m, "<rect class=\"s1 dot\" x=\"%.1f\" y=\"%.1f\" width=\"7\" height=\"7\"/>", x - 3.5, y - 3.5);
        break;
    case 2:
        fr_markup_format(m, "<path class=\"s2 dot\" d=\"M%.1f %.1fl4.5 8h-9z\"/>", x, y - 5);
        break;
    case 3:
        fr_markup_format(m, "<path class=\"s3 dot\" d=\"M%.1f %.1fl5 5-5 5-5-5z\"/>", x, y - 5);
        break;
    case 4:
        fr_markup_format(m, "<path class=\"s4 dot\" d=\"M%.1f %.1fl4.5-8h-9z\"/>", x, y + 5);
        break;
    default:
        fr_markup_format(m, "<path class=\"s5 dot open\" d=\"M%.1f %.1fl8 8m0-8l-8 8\"/>", x - 4, y - 4);
        break;
    }
}

static void describe_value(fr_markup *m, double value, double low, double high, fr_unit unit, const char *interval) {
    char text[32], range[72];
    fr_markup_raw(m, fr_unit_text(value, unit, text));
    if (isfinite(low) && isfinite(high))
        fr_markup_format(m, " (%s: %s)", interval ? interval : "95 %", fr_range_text(low, high, unit, range));
}

/* ---- Plots of points -------------------------------------------------------------------------------------------- */

static const char *x_text(const fr_plot *p, double x, char *text) {
    int i = (int)lround(x);
    if (p->x.names && i >= 1 && i <= (int)p->x.high) return p->x.names[i - 1];
    return fr_unit_text(x, p->x.unit == FR_UNIT_COUNT ? FR_UNIT_PLAIN : p->x.unit, text);
}

static void describe_point(fr_markup *m, const fr_plot *p, const fr_point *point) {
    char x[32];
    fr_markup_text(m, x_text(p, point->x, x));
    fr_markup_raw(m, ": ");
    describe_value(m, point->y, point->low, point->high, p->y.unit, p->interval);
}

/* Long series are described by their first points: nobody listens to hundreds. */
static void describe_plot(fr_markup *m, const fr_plot *p) {
    enum { SPOKEN = 12 };
    fr_markup_text(m, p->y.label);
    fr_markup_raw(m, " by ");
    fr_markup_text(m, p->x.label);
    for (int i = 0; i < p->num_series; i++) {
        const fr_series *s = &p->series[i];
        fr_markup_raw(m, ". ");
        fr_markup_text(m, s->name);
        for (int j = 0; j < s->count && j < SPOKEN; j++) {
            fr_markup_raw(m, j ? "; " : ": ");
            describe_point(m, p, &s->points[j]);
        }
        if (s->count > SPOKEN) fr_markup_format(m, "; and %d more", s->count - SPOKEN);
    }
    fr_markup_raw(m, ".</desc>\n");
}

static void draw_axes(fr_markup *m, const fr_plot *p, const scale *x, const scale *y) {
    char text[32];
    double bottom = y->from;
    for (int i = 0; i < y->num_ticks; i++) {
        double at = place(y, y->ticks[i]);
        line(m, "grid", x->from, at, WIDTH - RIGHT, at);
        text_at(m, "end", x->from - 7, at + 4, tick_text(y->ticks[i], p->y.unit, text));
    }
    /* names that would run into each other are written every second or third time, the last one in any case not */
    int step = 1, longest = 1;
    if (p->x.names)
        for (int i = 0; i < (int)p->x.high; i++)
            longest = characters(p->x.names[i]) > longest ? characters(p->x.names[i]) : longest;
    while (p->x.names && (x->num_ticks / step) * (6.6 * longest + 8) > WIDTH - LEFT - RIGHT) step++;
    for (int i = 0; i < x->num_ticks; i += step) {
        double at = place(x, x->ticks[i]);
        line(m, "tick", at, bottom, at, bottom + 5);
        text_at(m, "mid", at, bottom + 18, p->x.names ? x_text(p, x->ticks[i], text) : tick_text(x->ticks[i], p->x.unit, text));
    }
    line(m, "axis", x->from, bottom, WIDTH - RIGHT, bottom);
    text_at(m, "label", 4, 14, p->y.label);
    text_at(m, "label mid", (x->from + x->to) / 2, bottom + 38, p->x.label);
}

static bool is_drawn(const fr_reference *r, const scale *x, const scale *y) {
    return isfinite(r->at) && inside(r->vertical ? x : y, r->at);
}

static void draw_references(fr_markup *m, const fr_plot *p, const scale *x, const scale *y) {
    for (int i = 0; i < p->num_references; i++) {
        const fr_reference *r = &p->references[i];
        if (!is_drawn(r, x, y)) continue;
        double at = place(r->vertical ? x : y, r->at);
        if (r->vertical)
            line(m, "ref", at, y->from, at, y->to);
        else
            line(m, "ref", x->from, at, WIDTH - RIGHT, at);
    }
    if (p->diagonal) {
        double low = fmax(x->low, y->low), high = fmin(x->high, y->high);
        line(m, "ref", place(x, low), place(y, low), place(x, high), place(y, high));
    }
}

/* Over everything else, so that bars do not hide them; on the side of a vertical line that has more room, and at the
 * two ends of horizontal ones in turn, since they may lie close together. */
static void name_references(fr_markup *m, const fr_plot *p, const scale *x, const scale *y) {
    for (int i = 0; i < p->num_references; i++) {
        const fr_reference *r = &p->references[i];
        if (!is_drawn(r, x, y) || !r->label) continue;
        double at = place(r->vertical ? x : y, r->at);
        bool left = r->vertical && at > (x->from + x->to) / 2;
        if (r->vertical)
            text_at(m, left ? "refname end" : "refname", at + (left ? -5 : 5), y->from - 6, r->label);
        else
            text_at(m, i % 2 ? "refname" : "refname end", i % 2 ? x->from + 4 : WIDTH - RIGHT - 2, at - 5, r->label);
    }
}

static void draw_steps(fr_markup *m, const fr_series *s, int i, const scale *x, const scale *y) {
    fr_markup_format(m, "<path class=\"s%d line area\" d=\"M%.1f %.1f", i, place(x, s->points[0].x), y->from);
    for (int j = 0; j + 1 < s->count; j++)
        fr_markup_format(m, "V%.1fH%.1f", place(y, s->points[j].y), place(x, s->points[j + 1].x));
    fr_markup_format(m, "V%.1f\"/>\n", y->from);
}

static void draw_line(fr_markup *m, const fr_series *s, int i, const scale *x, const scale *y, double shift) {
    bool pen = false;
    fr_markup_format(m, "<path class=\"s%d line\" d=\"", i);
    for (int j = 0; j < s->count; j++) {
        bool known = isfinite(s->points[j].x) && isfinite(s->points[j].y);
        if (known)
            fr_markup_format(m, "%c%.1f %.1f", pen ? 'L' : 'M', place(x, s->points[j].x) + shift, place(y, s->points[j].y));
        pen = known;
    }
    fr_markup_raw(m, "\"/>\n");
}

static void draw_bar(fr_markup *m, const fr_point *point, int i, const scale *x, const scale *y) {
    double width = 0.76 * (x->to - x->from) / (x->high - x->low), top = place(y, point->y);
    if (width > 46) width = 46;
    fr_markup_format(m, "<rect class=\"s%d bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", i,
                     place(x, point->x) - width / 2, top, width, y->from - top);
}

static void draw_points(fr_markup *m, const fr_plot *p, int i, const scale *x, const scale *y, double shift) {
    const fr_series *s = &p->series[i];
    for (int j = 0; j < s->count; j++) {
        const fr_point *point = &s->points[j];
        if (!isfinite(point->x) || !isfinite(point->y) || !inside(x, point->x)) continue;
        double at = place(x, point->x) + shift;
        fr_markup_raw(m, "<g><title>");
        if (p->num_series > 1) {
            fr_markup_text(m, s->name);
            fr_markup_raw(m, ", ");
        }
        describe_point(m, p, point);
        fr_markup_raw(m, "</title>");
        if (s->mark == FR_MARK_BARS) draw_bar(m, point, i, x, y);
        if (isfinite(point->low) && isfinite(point->high)) {
            double low = place(y, point->low), high = place(y, point->high);
            fr_markup_format(m, "<path class=\"s%d whisker\" d=\"M%.1f %.1fV%.1fm-4 0h8M%.1f %.1fh8\"/>", i, at, low, high,
                             at - 4, low);
        }
        if (s->mark != FR_MARK_BARS) mark(m, i, at, place(y, point->y));
        fr_markup_raw(m, "</g>\n");
    }
}

static void draw_legend(fr_markup *m, const fr_plot *p, int count) {
    if (count < 2) return;
    fr_markup_raw(m, "<ul class=\"legend\">");
    for (int i = 0; i < count; i++) {
        const fr_series *s = &p->series[i];
        fr_markup_raw(m, "<li><svg viewBox=\"0 0 30 12\" aria-hidden=\"true\">");
        if (s->mark != FR_MARK_DOTS && s->mark != FR_MARK_BARS)
            fr_markup_format(m, "<path class=\"s%d line\" d=\"M1 6H29\"/>", i);
        if (s->mark == FR_MARK_BARS)
            fr_markup_format(m, "<rect class=\"s%d bar\" x=\"9\" y=\"1\" width=\"12\" height=\"10\"/>", i);
        if (s->mark == FR_MARK_DOTS || s->mark == FR_MARK_LINE) mark(m, i, 15, 6);
        fr_markup_raw(m, "</svg>");
        fr_markup_text(m, s->name);
        fr_markup_raw(m, "</li>");
    }
    fr_markup_raw(m, "</ul>\n");
}

/* plot: whose legend is to be written; may be NULL. */
static void close_figure(fr_markup *m, const fr_plot *plot, int count, const char *note) {
    fr_markup_raw(m, "</svg>\n");
    if (plot) draw_legend(m, plot, count);
    if (note && note[0]) {
        fr_markup_raw(m, "<figcaption>");
        fr_markup_text(m, note);
        fr_markup_raw(m, "</figcaption>");
    }
    fr_markup_raw(m, "</figure>\n");
}

void fr_plot_draw(fr_markup *m, const fr_plot *p, int number) {
    int count = p->num_series < FR_PLOT_SERIES ? p->num_series : FR_PLOT_SERIES;
    double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
    bool dodge = p->x.names != NULL || p->x.whole;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < p->series[i].count; j++) {
            const fr_point *point = &p->series[i].points[j];
            widen(&x_low, &x_high, point->x);
            widen(&y_low, &y_high, point->y);
            widen(&y_low, &y_high, point->low);
            widen(&y_low, &y_high, point->high);
            if (p->series[i].mark == FR_MARK_STEPS || p->series[i].mark == FR_MARK_BARS) widen(&y_low, &y_high, 0);
        }
    for (int i = 0; i < p->num_references; i++)
        if (!p->references[i].vertical) widen(&y_low, &y_high, p->references[i].at);
    pad(&y_low, &y_high);
    fr_axis x_axis = p->x;
    if (p->x.names) x_axis.low = 0.5, x_axis.high = p->x.high + 0.5, x_axis.whole = true;
    scale x = scale_of(&x_axis, x_low, x_high, LEFT, WIDTH - RIGHT, p->x.names ? MOST_TICKS : 8);
    scale y = scale_of(&p->y, y_low, y_high, HEIGHT - BOTTOM, TOP, 5);
    double spacing = (x.to - x.from) / (x.high - x.low); /* of whole numbers */
    open_figure(m, p->title, number, HEIGHT);
    describe_plot(m, p);
    draw_axes(m, p, &x, &y);
    draw_references(m, p, &x, &y);
    for (int i = 0; i < count; i++) {
        const fr_series *s = &p->series[i];
        double shift = dodge && spacing > 4 * DODGE && s->mark != FR_MARK_BARS ? (i - 0.5 * (count - 1)) * DODGE : 0;
        if (s->mark == FR_MARK_STEPS && s->count > 1) draw_steps(m, s, i, &x, &y);
        if (s->mark == FR_MARK_LINE || s->mark == FR_MARK_CURVE) draw_line(m, s, i, &x, &y, shift);
        if (s->mark != FR_MARK_STEPS && s->mark != FR_MARK_CURVE) draw_points(m, p, i, &x, &y, shift);
    }
    name_references(m, p, &x, &y);
    close_figure(m, p, count, p->note);
}

/* ---- Plots of rows ---------------------------------------------------------------------------------------------- */

static void draw_row(fr_markup *m, const fr_row_plot *p, const fr_row *row, const scale *x, double at, bool above) {
    char text[32];
    fr_markup_raw(m, "<g><title>");
    fr_markup_text(m, row->name);
    fr_markup_raw(m, ": ");
    describe_value(m, row->value, row->low, row->high, p->x.unit, p->interval);
    fr_markup_raw(m, "</title>");
    fr_markup_format(m, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", above ? "row" : "row end", above ? x->from : x->from - 9,
                     above ? at - 11 : at + 4);
    short_text(m, row->name, above ? 52 : 16);
    fr_markup_raw(m, "</text>");
    text_at(m, "value end", WIDTH - 4, at + 4, fr_unit_text(row->value, p->x.unit, text));
    line(m, "grid", x->from, at, x->to, at);
    if (isfinite(row->low) && isfinite(row->high))
        fr_markup_format(m, "<path class=\"s0 whisker\" d=\"M%.1f %.1fH%.1fm0-4v8M%.1f %.1fv8\"/>", place(x, row->low), at,
                         place(x, row->high), place(x, row->low), at - 4);
    if (isfinite(row->value)) mark(m, 0, place(x, row->value), at);
    fr_markup_raw(m, "</g>\n");
}

void fr_row_plot_draw(fr_markup *m, const fr_row_plot *p, int number) {
    enum { VALUE = 66 }; /* to the right of the plot */
    double low = INFINITY, high = -INFINITY, top = 10;
    int longest = 0;
    for (int i = 0; i < p->num_rows; i++) {
        widen(&low, &high, p->rows[i].value);
        widen(&low, &high, p->rows[i].low);
        widen(&low, &high, p->rows[i].high);
        if (characters(p->rows[i].name) > longest) longest = characters(p->rows[i].name);
    }
    for (int i = 0; i < p->num_references; i++) widen(&low, &high, p->references[i].at);
    pad(&low, &high);
    bool above = longest > 16, named = p->num_references > 0;
    double step = above ? 46 : 28, left = above ? 12 : 16 + 7.6 * longest;
    double height = top + (named ? 16 : 0) + step * p->num_rows + BOTTOM;
    scale x = scale_of(&p->x, low, high, left, WIDTH - VALUE, above ? 6 : 5);
    double first = top + (named ? 16 : 0) + (above ? 28 : 14), bottom = height - BOTTOM;
    char text[32];
    open_figure(m, p->title, number, height);
    fr_markup_text(m, p->x.label);
    for (int i = 0; i < p->num_rows; i++) {
        fr_markup_raw(m, i ? "; " : ". ");
        fr_markup_text(m, p->rows[i].name);
        fr_markup_raw(m, ": ");
        describe_value(m, p->rows[i].value, p->rows[i].low, p->rows[i].high, p->x.unit, p->interval);
    }
    fr_markup_raw(m, ".</desc>\n");
    for (int i = 0; i < x.num_ticks; i++) {
        double at = place(&x, x.ticks[i]);
        line(m, "tick", at, bottom, at, bottom + 5);
        text_at(m, "mid", at, bottom + 18, tick_text(x.ticks[i], p->x.unit, text));
    }
    line(m, "axis", x.from, bottom, x.to, bottom);
    text_at(m, "label mid", (x.from + x.to) / 2, bottom + 38, p->x.label);
    for (int i = 0; i < p->num_references; i++) {
        const fr_reference *r = &p->references[i];
        if (!isfinite(r->at) || !inside(&x, r->at)) continue;
        double at = place(&x, r->at);
        bool end = at > (x.from + x.to) / 2;
        line(m, "ref", at, top, at, bottom);
        text_at(m, end ? "refname end" : "refname", at + (end ? -5 : 5), top + 8, r->label);
    }
    for (int i = 0; i < p->num_rows; i++) draw_row(m, p, &p->rows[i], &x, first + step * i, above);
    close_figure(m, NULL, 0, p->note);
}
