#include "reference/reference.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

float ref_bf16_decode(uint16_t code) {
    uint32_t bits = (uint32_t)code << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float ref_bf16_round(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint16_t down = (uint16_t)(bits >> 16);
    float low = ref_bf16_decode(down), high = ref_bf16_decode((uint16_t)(down + 1));
    double below = fabs((double)x - low), above = fabs((double)high - x);
    if (below < above || (below == above && down % 2 == 0)) return low;
    return high;
}

float ref_e4m3_decode(uint8_t code) {
    int exponent = code >> 3 & 15, mantissa = code & 7;
    if (exponent == 15 && mantissa == 7) return NAN;
    double magnitude = exponent == 0 ? ldexp(mantissa, -9) : ldexp(8 + mantissa, exponent - 10);
    return (float)(code & 0x80 ? -magnitude : magnitude);
}

uint8_t ref_e4m3_encode(float x) {
    /* Positive codes are in the order of their values: find the last one that is not above |x|. */
    double magnitude = fabs((double)x);
    uint8_t sign = signbit(x) ? 0x80 : 0, code = 0, largest = 0x7e;
    for (uint8_t step = 64; step > 0; step /= 2) {
        if (code + step <= largest && ref_e4m3_decode((uint8_t)(code + step)) <= magnitude) code = (uint8_t)(code + step);
    }
    if (code < largest) {
        double below = magnitude - ref_e4m3_decode(code), above = ref_e4m3_decode((uint8_t)(code + 1)) - magnitude;
        if (above < below || (above == below && code % 2 == 1)) code++;
    }
    return sign | code;
}

void ref_rmsnorm(const float *x, const float *w, int n, double eps, float *y) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * x[i];
    float scale = (float)(1 / sqrt(sum / n + eps));
    for (int i = 0; i < n; i++) y[i] = x[i] * scale * w[i];
}

double ref_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

void ref_softmax(double *x, int n) {
    double max = x[0], sum = 0;
    for (int i = 1; i < n; i++) max = fmax(max, x[i]);
    for (int i = 0; i < n; i++) sum += x[i] = exp(x[i] - max);
    for (int i = 0; i < n; i++) x[i] /= sum;
}

void ref_quantize_row(const float *x, int n, bool ue8m0, float *q, float *scale) {
    for (int begin = 0; begin < n; begin += REF_BLOCK) {
        int end = begin + REF_BLOCK < n ? begin + REF_BLOCK : n;
        float amax = 1e-4f;
        for (int i = begin; i < end; i++) amax = fmaxf(amax, fabsf(x[i]));
        float s = amax / 448.0f;
        if (ue8m0) {
            int exponent;
            double fraction = frexp(s, &exponent); /* s = fraction * 2^exponent, fraction in [0.5, 1) */
            s = (float)ldexp(1, fraction == 0.5 ? exponent - 1 : exponent);
        }
        scale[begin / REF_BLOCK] = s;
        for (int i = begin; i < end; i++) q[i] = ref_e4m3_decode(ref_e4m3_encode(x[i] / s));
    }
}

double ref_dot(const float *a, const float *b, int n) {
    /* Four sums, only because one alone would wait for itself. */
    double sum[4] = {0};
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        for (int j = 0; j < 4; j++) sum[j] += (double)a[i + j] * b[i + j];
    }
    for (; i < n; i++) sum[0] += (double)a[i] * b[i];
    return sum[0] + sum[1] + sum[2] + sum[3];
}

static float block_scale(const ref_linear *linear, int o, int i) {
    int columns = (linear->in + REF_BLOCK - 1) / REF_BLOCK;
    return linear->scale ? linear->scale[o / REF_BLOCK * columns + i / REF_BLOCK] : 1.0f;
}

float ref_linear_at(const ref_linear *linear, int o, int i) {
    return linear->w[(size_t)o * linear->in + i] * block_scale(linear, o, i);
}

static void forward_f32(const ref_linear *linear, const float *x, int rows, float *y) {
    /* Dequantized once a row of weights, since a pass has many rows. */
    float *w = ref_alloc((size_t)linear->in, sizeof *w);
    for (int o = 0; o < linear->out; o++) {
        for (int i = 0; i < linear->in; i++) w[i] = ref_linear_at(linear, o, i);
        for (int r = 0; r < rows; r++) {
            y[(size_t)r * linear->out + o] = (float)ref_dot(w, x + (size_t)r * linear->in, linear->in);
        }
    }
    free(w);
}

/* y = sum over blocks of sx * sw * (qx . qw) */
static void forward_fp8(const ref_linear *linear, const float *x, int rows, bool ue8m0, float *y) {
    int in = linear->in, blocks = (in + REF_BLOCK - 1) / REF_BLOCK;
    float *q = ref_alloc((size_t)in, sizeof *q), *sx = ref_alloc((size_t)blocks, sizeof *sx);
    for (int r = 0; r < rows; r++) {
        ref_quantize_row(x + (size_t)r * in, in, ue8m0, q, sx);
        for (int o = 0; o < linear->out; o++) {
            double sum = 0;
            for (int b = 0; b < blocks; b++) {
                int begin = b * REF_BLOCK, n = in - begin < REF_BLOCK ? in - begin : REF_BLOCK;
                double dot = ref_dot(q + begin, linear->w + (size_t)o * in + begin, n);
                sum += (double)sx[b] * block_scale(linear, o, begin) * dot;
            }
            y[(size_t)r * linear->out + o] = (float)sum;
        }
    }
    free(q);
    free(sx);
}

void ref_linear_forward(const ref_linear *linear, const float *x, int rows, ref_act act, float *y) {
    if (act == REF_ACT_F32 || !linear->scale)
        forward_f32(linear, x, rows, y);
    else
        forward_fp8(linear, x, rows, act == REF_ACT_FP8_UE8M0, y);
}

void ref_rope_apply(const ref_rope *rope, float *x, int position) {
    for (int i = 0; i < rope->dim / 2; i++) {
        float angle = (float)position * rope->freq[i];
        double c = cos(angle) * rope->mscale, s = sin(angle) * rope->mscale;
        double a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = (float)(a * c - b * s);
        x[2 * i + 1] = (float)(a * s + b * c);
    }
}

/* The best of the candidates that are not taken, lower ids first; -1: none. */
static int best_left(const double *choice, const bool *out_of_play, int n) {
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (!out_of_play[i] && (best < 0 || choice[i] > choice[best])) best = i;
    }
    return best;
}

/* Marks the experts outside the best `kept_groups` groups; a group's score is the sum of its two best. Returns by how
 * much the last kept group beats the best of the others. */
static double exclude_groups(const ref_router_shape *shape, const double *choice, bool *out_of_play) {
    int size = shape->experts / shape->groups;
    double *score = ref_alloc((size_t)shape->groups, sizeof *score);
    bool *kept = ref_alloc((size_t)shape->groups, sizeof *kept);
    for (int g = 0; g < shape->groups; g++) {
        double first = -INFINITY, second = -INFINITY;
        for (int i = g * size; i < (g + 1) * size; i++) {
            if (choice[i] > first) {
                second = first;
                first = choice[i];
            } else if (choice[i] > second) {
                second = choice[i];
            }
        }
        score[g] = size > 1 ? first + second : first;
    }
    double last = INFINITY;
    for (int k = 0; k < shape->kept_groups; k++) {
        int best = best_left(score, kept, shape->groups);
        kept[best] = true;
        last = score[best];
    }
    int next = best_left(score, kept, shape->groups);
    double margin = next >= 0 ? last - score[next] : INFINITY;
    for (int i = 0; i < shape->experts; i++) out_of_play[i] = !kept[i / size];
    free(score);
    free(kept);
    return margin;
}

double ref_route(const ref_router_shape *shape, const float *logits, const float *bias, int *idx, float *w) {
    int n = shape->experts, count = 0;
    double *s = ref_alloc((size_t)n, sizeof *s), *choice = ref_alloc((size_t)n, sizeof *choice);
    bool *out_of_play = ref_alloc((size_t)n, sizeof *out_of_play), *chosen = ref_alloc((size_t)n, sizeof *chosen);
    for (int i = 0; i < n; i++) {
        s[i] = ref_sigmoid(logits[i]);
        choice[i] = s[i] + bias[i];
    }
    double margin = exclude_groups(shape, choice, out_of_play), last = INFINITY, sum = 0;
    for (int k = 0; k < shape->top_k; k++) {
        int best = best_left(choice, out_of_play, n);
        assert(best >= 0); /* a config whose kept groups hold fewer than top_k experts */
        out_of_play[best] = chosen[best] = true;
        last = choice[best];
        sum += s[best];
    }
    int next = best_left(choice, out_of_play, n);
    if (next >= 0) margin = fmin(margin, last - choice[next]);
    for (int i = 0; i < n; i++) {
        if (!chosen[i]) continue;
        idx[count] = i;
        w[count++] = (float)((shape->normalize ? s[i] / (sum + 1e-20) : s[i]) * shape->scaling);
    }
    free(s);
    free(choice);
    free(out_of_play);
    free(chosen);
    return margin;
}
