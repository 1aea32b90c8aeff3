#include "sampler/draw.h"

#include <math.h>

#include "core/threads.h"

typedef struct contest {
    const fr_distribution *d;
    uint64_t seed;
    fr_stream stream;
    int position;
    fr_best best;
    double limit; /* entry i can beat the best only if its noise comes from u with 1 - u <= p[i] * limit */
} contest;

/* Noise -log(-log u) lifts a score s to the best value v if u >= exp(-exp(s - v)), and 1 - exp(-t) <= t: so 1 - u <= exp(s - v).
 * That is p exp(s' - v) / p' for any entry with p' and s'. The margin is far above all rounding. */
static void set_best(contest *c, int i, double value) {
    c->best = (fr_best){.value = value, .index = i};
    c->limit = exp(c->d->score[i] - value) / c->d->p[i] * (1.0 + 0x1p-20);
}

static double value_of(const contest *c, int i) {
    return c->d->score[i] + fr_gumbel(c->seed, c->stream, c->position, c->d->ids[i]);
}

static bool wins(const fr_distribution *d, double value, int i, const fr_best *best) {
    return value > best->value || (value == best->value && d->ids[i] < d->ids[best->index]);
}

/* Entries [begin, end) against the best so far. A block of numbers serves the tokens that share it, and logarithms are taken only
 * of numbers that may win. */
static void compete(contest *c, int begin, int end) {
    const fr_distribution *d = c->d;
    uint32_t random[4];
    int32_t block = -1;
    for (int i = begin; i < end; i++) {
        double most = d->p[i] * c->limit;
        if (most < FR_UNIFORM_STEP / 2) continue; /* u is no nearer to 1 */
        if (d->ids[i] / FR_BLOCK_TOKENS != block) {
            block = d->ids[i] / FR_BLOCK_TOKENS;
            fr_uniform_block(c->seed, c->stream, c->position, block, random);
        }
        if (1.0 - fr_uniform_of(random[d->ids[i] % FR_BLOCK_TOKENS]) > most) continue;
        double value = value_of(c, i);
        if (wins(d, value, i, &c->best)) set_best(c, i, value);
    }
}

int fr_draw(const fr_distribution *d, fr_best *best, uint64_t seed, fr_stream stream, int position) {
    contest c = {.d = d, .seed = seed, .stream = stream, .position = position};
    int begin, end, winner = 0;
    fr_team_split(d->count, 64, &begin, &end);
    set_best(&c, d->top, value_of(&c, d->top));
    compete(&c, begin, end);
    best[fr_team_rank()] = c.best;
    fr_team_barrier();
    for (int t = 1; t < fr_team_size(); t++)
        if (wins(d, best[t].value, best[t].index, &best[winner])) winner = t;
    return best[winner].index;
}
