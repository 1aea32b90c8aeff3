/* What a page's plots are made of. */
#include <math.h>

#include "core/memory.h"
#include "study/report/report.h"

fr_point *fr_chart_room(fr_report *r, int most) {
    fr_chart *chart = &r->chart;
    if (chart->count == FR_PLOT_SERIES) return NULL;
    fr_free(chart->points[chart->count]);
    chart->points[chart->count] = fr_alloc((size_t)most * sizeof(fr_point));
    r->body.failed |= !chart->points[chart->count];
    return chart->points[chart->count];
}

void fr_chart_add(fr_report *r, const char *name, fr_mark mark, int count) {
    fr_chart *chart = &r->chart;
    if (count == 0) return;
    chart->series[chart->count] = (fr_series){name, mark, chart->points[chart->count], count};
    chart->count++;
}

void fr_chart_add_array(fr_report *r, const char *name, fr_mark mark, const cJSON *array, const char *x, const char *y,
                        const char *interval) {
    enum { MOST_POINTS = 512 };
    fr_point *points = fr_chart_room(r, MOST_POINTS);
    const cJSON *item;
    int count = 0;
    if (!points) return;
    cJSON_ArrayForEach(item, array) {
        fr_point p = {fr_path_number(item, x), fr_path_number(item, y), NAN, NAN};
        if (interval) fr_path_interval(item, interval, &p.low, &p.high);
        if (count < MOST_POINTS && fabs(p.x) < 1e9 && isfinite(p.y)) points[count++] = p;
    }
    fr_chart_add(r, name, mark, count);
}

double fr_chart_end(const fr_report *r, int count) {
    double end = -INFINITY;
    for (int i = 0; i < count && i < r->chart.count; i++)
        end = fmax(end, r->chart.series[i].points[r->chart.series[i].count - 1].x);
    return end;
}

void fr_chart_clear(fr_report *r) {
    for (int i = 0; i < FR_PLOT_SERIES; i++) fr_free(r->chart.points[i]);
    r->chart = (fr_chart){.count = 0};
}

void fr_chart_draw(fr_report *r, fr_plot plot) {
    plot.series = r->chart.series;
    plot.num_series = r->chart.count;
    if (plot.num_series) fr_plot_draw(&r->body, &plot, ++r->figures);
    fr_chart_clear(r);
}

fr_axis fr_position_axis(double last) {
    return (fr_axis){
        .label = "position in the draft", .unit = FR_UNIT_COUNT, .whole = true, .low = 0.5, .high = floor(last) + 0.5};
}

void fr_rows_add(fr_rows *rows, const fr_view *view, const cJSON *array, int most) {
    const fr_column *figure = view->columns;
    const cJSON *item;
    while (!figure->interval) figure++;
    cJSON_ArrayForEach(item, array) {
        fr_row row = {.value = fr_column_number(figure, item)};
        if (rows->count == most) return;
        if (!isfinite(row.value) && !rows->unknown) continue;
        fr_column_interval(figure, item, &row.low, &row.high);
        row.name = fr_column_text(view->columns, item, rows->names[rows->count]);
        if (!row.name) row.name = "";
        rows->rows[rows->count++] = row;
    }
}

void fr_report_rows(fr_report *r, const fr_rows *rows, fr_row_plot plot) {
    plot.rows = rows->rows;
    plot.num_rows = rows->count;
    if (rows->count) fr_row_plot_draw(&r->body, &plot, ++r->figures);
}
