#include "attn/rope.h"

#include <assert.h>
#include <math.h>

static double yarn_mscale(double factor, double mscale) {
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

/* The pair index at which a wave makes `turns` turns over the original context. */
static double yarn_correction_dim(const fr_config *c, double turns) {
    return c->qk_rope_head_dim * log(c->yarn.original_max_position_embeddings / (turns * 2.0 * M_PI)) /
           (2.0 * log(c->rope_theta));
}

/* Angular frequency of pair i. YaRN leaves fast waves alone, stretches slow ones by `factor`, and ramps between. */
static float inverse_frequency(const fr_config *c, int i) {
    double plain = 1.0 / pow(c->rope_theta, 2.0 * i / c->qk_rope_head_dim);
    if (!c->yarn.present) return (float)plain;
    double low = fmax(floor(yarn_correction_dim(c, c->yarn.beta_fast)), 0.0);
    double high = fmin(ceil(yarn_correction_dim(c, c->yarn.beta_slow)), c->qk_rope_head_dim - 1.0);
    if (high == low) high += 0.001;
    double slow = fmin(fmax((i - low) / (high - low), 0.0), 1.0);
    return (float)(plain / c->yarn.factor * slow + plain * (1.0 - slow));
}

/* What cos and sin are multiplied by: as given, by the two mscales if both are given, or by that of factor. */
static double attention_factor(const fr_config *c) {
    double factor = c->yarn.factor, mscale = c->yarn.mscale, all = c->yarn.mscale_all_dim;
    if (!c->yarn.present) return 1.0;
    if (c->yarn.attention_factor > 0) return c->yarn.attention_factor;
    return mscale > 0 && all > 0 ? yarn_mscale(factor, mscale) / yarn_mscale(factor, all) : yarn_mscale(factor, 1.0);
}

void fr_rope_take(fr_rope *rope, fr_arena *arena, const fr_config *config, int positions) {
    rope->dim = config->qk_rope_head_dim;
    rope->positions = positions;
    rope->table = FR_TAKE(arena, float, (size_t)positions *(size_t)rope->dim);
    if (!rope->table) return;
    double scale = attention_factor(config);
    for (int i = 0; i < rope->dim / 2; i++) {
        float frequency = inverse_frequency(config, i);
        for (int pos = 0; pos < positions; pos++) {
            float angle = (float)pos * frequency; /* float32, as the reference computes it */
            float *pair = rope->table + (size_t)pos * (size_t)rope->dim + 2 * i;
            pair[0] = (float)(cos(angle) * scale);
            pair[1] = (float)(sin(angle) * scale);
        }
    }
}

static const float *turns_of(const fr_rope *rope, int pos) {
    assert(pos >= 0 && pos < rope->positions);
    return rope->table + (size_t)pos * (size_t)rope->dim;
}

/* Turns (*a, *b) by the angle whose cos and sin are t[0] and t[1]. */
static void turn(float *a, float *b, const float *t) {
    float x = *a, y = *b;
    *a = x * t[0] - y * t[1];
    *b = y * t[0] + x * t[1];
}

void fr_rope_apply(const fr_rope *rope, int pos, float *x) {
    const float *t = turns_of(rope, pos);
    for (int i = 0; i < rope->dim; i += 2) turn(&x[i], &x[i + 1], t + i);
}

void fr_rope_apply_halves(const fr_rope *rope, int pos, float *x) {
    const float *t = turns_of(rope, pos);
    int half = rope->dim / 2;
    for (int i = 0; i < half; i++) turn(&x[i], &x[i + half], t + 2 * i);
}

float fr_softmax_scale(const fr_config *config) {
    double scale = 1.0 / sqrt(config->qk_nope_head_dim + config->qk_rope_head_dim);
    if (config->yarn.present) {
        double m = yarn_mscale(config->yarn.factor, config->yarn.mscale_all_dim);
        scale *= m * m;
    }
    return (float)scale;
}
