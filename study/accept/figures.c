#include "study/accept/figures.h"

#include <math.h>
#include <string.h>

#include "core/memory.h"

fr_status fr_accept_units_create(fr_accept_units *units, size_t most, fr_error *error) {
    *units = (fr_accept_units){.values = fr_alloc(4 * most * sizeof *units->values), .most = most};
    if (!units->values) return fr_fail(error, FR_ERROR_MEMORY, "accept: out of memory");
    for (size_t side = 0; side < 2; side++) {
        units->part[side] = units->values + 2 * side * most;
        units->whole[side] = units->part[side] + most;
    }
    return FR_OK;
}

void fr_accept_units_release(fr_accept_units *units) {
    fr_free(units->values);
    *units = (fr_accept_units){0};
}

static double sum(const uint64_t *at) {
    double all = 0.0;
    for (int j = 0; j < FR_MAX_DEPTH; j++) all += (double)at[j];
    return all;
}

static void count_text(const fr_accept_text *t, fr_accept_figure figure, double *part, double *whole) {
    switch (figure.kind) {
    case FR_ACCEPT_RATE:
    case FR_ACCEPT_LENGTH:
        *part = sum(t->at.accepted);
        *whole = figure.kind == FR_ACCEPT_RATE ? sum(t->at.drafted) : (double)t->cycles;
        break;
    case FR_ACCEPT_POSITION:
    case FR_ACCEPT_CONDITIONAL:
        *part = (double)t->at.accepted[figure.at];
        *whole = (double)(figure.kind == FR_ACCEPT_POSITION ? t->at.drafted : t->at.reached)[figure.at];
        break;
    case FR_ACCEPT_CONTEXT:
        *part = (double)t->context_accepted[figure.at];
        *whole = (double)t->context_drafted[figure.at];
        break;
    case FR_ACCEPT_BIN:
        *part = (double)t->calibration.happened[figure.at];
        *whole = (double)t->calibration.count[figure.at];
        break;
    }
}

/* Prompts that have such drafts in all of the configurations (one or two). */
static void gather(const fr_accept_run *run, const fr_accept_config *const *configs, int num_configs, const char *domain,
                   fr_accept_figure figure, fr_accept_units *units) {
    units->count = 0;
    for (size_t p = 0; p < run->num_prompts; p++) {
        bool there = !domain || strcmp(domain, run->prompts.items[p].domain) == 0;
        for (int side = 0; side < num_configs && there; side++) {
            double *part = &units->part[side][units->count], *whole = &units->whole[side][units->count];
            count_text(&configs[side]->texts[p], figure, part, whole);
            there = *whole > 0.0;
        }
        units->count += there;
    }
}

/* Drafts a cycle are a share of the most that there can be. */
static fr_estimated length_of(fr_accept_units *units, int depth) {
    for (size_t i = 0; i < units->count; i++) units->whole[0][i] *= depth;
    fr_estimated share = fr_estimate_share((fr_sums){units->part[0], units->whole[0]}, units->count);
    return (fr_estimated){1.0 + depth * share.value, {1.0 + depth * share.interval.low, 1.0 + depth * share.interval.high}};
}

fr_estimated fr_accept_estimate(const fr_accept_run *run, const fr_accept_config *config, const char *domain,
                                fr_accept_figure figure, fr_accept_units *units) {
    gather(run, &config, 1, domain, figure, units);
    if (figure.kind == FR_ACCEPT_LENGTH) return length_of(units, config->depth);
    return fr_estimate_share((fr_sums){units->part[0], units->whole[0]}, units->count);
}

fr_estimated fr_accept_difference(const fr_accept_run *run, const fr_accept_config *a, const fr_accept_config *b,
                                  fr_accept_figure figure, fr_accept_units *units) {
    const fr_accept_config *const both[] = {a, b};
    gather(run, both, 2, NULL, figure, units);
    return fr_estimate_difference((fr_sums){units->part[0], units->whole[0]}, (fr_sums){units->part[1], units->whole[1]},
                                  units->count);
}
