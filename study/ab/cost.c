#include "study/ab/cost.h"

#include <math.h>

#include "core/memory.h"
#include "model/traffic.h"
#include "mtp/drafters/drafter.h"
#include "study/statistics.h"

static double median_or_nan(double *samples, size_t count) {
    return count > 0 ? fr_median(samples, count) : NAN;
}

static size_t probes_of(const fr_ab_run *run) {
    return run->num_prompts * (size_t)run->options.repeats;
}

/* Median over probes of a pass of r + 1 rows, in seconds or over one of one row. */
static double pass_of(const fr_ab_run *run, int r, bool over_one, double *room) {
    size_t count = 0;
    for (size_t i = 0; i < probes_of(run); i++) {
        const fr_ab_probe *probe = &run->probes[i];
        if (r < probe->rows) room[count++] = probe->pass_s[r] / (over_one ? probe->pass_s[0] : 1.0);
    }
    return median_or_nan(room, count);
}

static double experts_of(const fr_ab_run *run, int r) {
    double sum = 0.0, layers = 0.0;
    for (size_t i = 0; i < probes_of(run); i++) {
        if (r >= run->probes[i].rows) continue;
        sum += (double)run->probes[i].experts[r];
        layers += run->model->num_moe_layers;
    }
    return layers > 0.0 ? sum / layers : NAN;
}

static void passes_of(const fr_ab_run *run, double *room, fr_ab_costs *out) {
    for (size_t i = 0; i < probes_of(run); i++) {
        out->probes += run->probes[i].rows > 0;
        if (run->probes[i].rows > out->rows) out->rows = run->probes[i].rows;
    }
    for (int r = 0; r <= FR_MAX_DEPTH; r++) {
        out->pass_s[r] = pass_of(run, r, false, room);
        out->over_one[r] = pass_of(run, r, true, room);
        out->experts[r] = experts_of(run, r);
    }
    out->overlap = 2.0 - out->experts[1] / out->experts[0]; /* what two neighbours both chose is missing from the union */
}

/* The median over texts of what a draft took, of columns that draft as deep as they can. */
static double draft_of(const fr_ab_run *run, bool first, double *room) {
    size_t count = 0;
    for (size_t p = 0; p < run->num_prompts; p++)
        for (int r = 0; r < run->options.repeats; r++)
            for (int c = 0; c < run->num_columns; c++) {
                const fr_ab_text *t = fr_ab_text_at(run, p, r, c);
                int drafts = first ? t->first_drafts : t->next_drafts;
                if (fr_ab_turn_is_whole(run, p, r) && drafts > 0)
                    room[count++] = (first ? t->first_draft_s : t->next_draft_s) / drafts;
            }
    return median_or_nan(room, count);
}

static void count_bytes(const fr_ab_run *run, fr_ab_costs *out) {
    fr_traffic traffic;
    bool drafts = fr_drafter_type_of((int)run->options.session.drafter)->needs_mtp; /* the module is what a draft reads */
    fr_traffic_of(run->model, &traffic);
    for (int r = 0; r <= FR_MAX_DEPTH; r++) {
        double experts = run->model->num_moe_layers > 0 ? out->experts[r] : 0.0;
        out->bytes.pass[r] = r < out->rows ? fr_traffic_pass(&traffic, experts) : NAN;
    }
    out->bytes.draft_first = out->bytes.draft_next = drafts ? (double)traffic.draft : 0.0;
}

fr_status fr_ab_costs_of(const fr_ab_run *run, fr_ab_costs *out, fr_error *error) {
    *out = (fr_ab_costs){0};
    double *room = fr_alloc((probes_of(run) * (size_t)run->num_columns + 1) * sizeof *room);
    if (!room) return fr_fail(error, FR_ERROR_MEMORY, "ab: not enough for the figures");
    passes_of(run, room, out);
    out->draft_first_s = draft_of(run, true, room);
    out->draft_next_s = draft_of(run, false, room);
    fr_free(room);
    for (int r = 0; r <= FR_MAX_DEPTH; r++) out->measured.pass[r] = out->over_one[r];
    out->measured.draft_first = out->draft_first_s / out->pass_s[0];
    out->measured.draft_next = isfinite(out->draft_next_s) ? out->draft_next_s / out->pass_s[0] : out->measured.draft_first;
    count_bytes(run, out);
    return FR_OK;
}
