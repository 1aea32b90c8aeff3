#include "study/cost_model.h"

#include <assert.h>
#include <math.h>

double fr_cost_cycle(const fr_cost_model *m, int k) {
    assert(k >= 0 && k <= FR_MAX_DEPTH);
    return m->pass[k] + (k > 0 ? m->draft_first + (k - 1) * m->draft_next : 0.0);
}

double fr_cost_tokens(double acceptance, int k) {
    double tokens = 1.0, reach = 1.0;
    for (int j = 0; j < k; j++) tokens += reach *= acceptance;
    return tokens;
}

double fr_cost_speedup(const fr_cost_model *m, int k, double acceptance) {
    return fr_cost_tokens(acceptance, k) * m->pass[0] / fr_cost_cycle(m, k);
}

double fr_cost_break_even(const fr_cost_model *m, int k) {
    double low = 0.0, high = 1.0;
    if (!(fr_cost_speedup(m, k, 1.0) >= 1.0)) return NAN;
    if (fr_cost_speedup(m, k, 0.0) >= 1.0) return 0.0;
    for (int i = 0; i < 60; i++) { /* speedup rises with acceptance */
        double middle = 0.5 * (low + high);
        *(fr_cost_speedup(m, k, middle) < 1.0 ? &low : &high) = middle;
    }
    return high;
}

double fr_cost_of_cycles(const fr_cost_model *m, const fr_stats *stats) {
    double cost = 0.0;
    for (int k = 0; k <= FR_MAX_DEPTH; k++)
        if (stats->depth_histogram[k] > 0) cost += (double)stats->depth_histogram[k] * fr_cost_cycle(m, k);
    return cost;
}

double fr_cost_without_drafts(const fr_cost_model *m, const fr_stats *stats) {
    return (double)(stats->num_cycles + stats->num_accepted_tokens) * m->pass[0];
}
