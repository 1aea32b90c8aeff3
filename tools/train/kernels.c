/* The elementwise parts of training, fused: on a CPU they, not the matrix products, are where PyTorch's time goes.
 * Activations are bfloat16, sums are float32. Built and called by kernels.py. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;

static inline float up(bf16 v) {
    uint32_t u = (uint32_t)v << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline bf16 down(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return (bf16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

void rmsnorm(long rows, long n, const bf16 *x, const float *w, float eps, bf16 *y, float *rstd) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        const bf16 *xr = x + r * n;
        bf16 *yr = y + r * n;
        float sum = 0;
        for (long i = 0; i < n; i++) sum += up(xr[i]) * up(xr[i]);
        float s = rstd[r] = 1 / sqrtf(sum / n + eps);
        for (long i = 0; i < n; i++) yr[i] = down(up(xr[i]) * s * w[i]);
    }
}

/* dw must be zero on entry. */
void rmsnorm_backward(long rows, long n, const bf16 *x, const float *w, const float *rstd, const bf16 *dy, bf16 *dx, float *dw) {
#pragma omp parallel
    {
        float *own = calloc(n, sizeof *own);
#pragma omp for
        for (long r = 0; r < rows; r++) {
            const bf16 *xr = x + r * n, *dr = dy + r * n;
            bf16 *out = dx + r * n;
            float s = rstd[r], dot = 0;
            for (long i = 0; i < n; i++) {
                float t = up(dr[i]) * up(xr[i]) * s;
                own[i] += t;
                dot += t * w[i];
            }
            dot *= s / n;
            for (long i = 0; i < n; i++) out[i] = down(s * up(dr[i]) * w[i] - up(xr[i]) * s * dot);
        }
#pragma omp critical
        for (long i = 0; i < n; i++) dw[i] += own[i];
        free(own);
    }
}

/* y = silu(gate) * up * weight of the row; gate and up are the halves of a row of gu. */
void swiglu(long rows, long n, const bf16 *gu, const float *weight, bf16 *y) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        const bf16 *g = gu + r * 2 * n, *u = g + n;
        bf16 *yr = y + r * n;
        float w = weight[r];
        for (long i = 0; i < n; i++) {
            float a = up(g[i]);
            yr[i] = down(a / (1 + expf(-a)) * up(u[i]) * w);
        }
    }
}

void swiglu_backward(long rows, long n, const bf16 *gu, const float *weight, const bf16 *dy, bf16 *dgu, float *dweight) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        const bf16 *g = gu + r * 2 * n, *u = g + n, *d = dy + r * n;
        bf16 *dg = dgu + r * 2 * n, *du = dg + n;
        float w = weight[r], sum = 0;
        for (long i = 0; i < n; i++) {
            float a = up(g[i]), s = 1 / (1 + expf(-a)), b = up(u[i]), t = up(d[i]);
            sum += t * a * s * b;
            dg[i] = down(t * w * b * s * (1 + a * (1 - s)));
            du[i] = down(t * w * a * s);
        }
        dweight[r] = sum;
    }
}

/* In place over `matrices` score matrices [t, t]: row i becomes softmax(scale * its first i + 1 entries), the rest 0. */
void causal_softmax(long matrices, long t, float scale, bf16 *scores) {
#pragma omp parallel for schedule(dynamic, 16)
    for (long row = 0; row < matrices * t; row++) {
        bf16 *s = scores + row * t;
        long n = row % t + 1;
        float top = -1e30f, sum = 0;
        float e[n];
        for (long i = 0; i < n; i++) e[i] = up(s[i]) * scale;
        for (long i = 0; i < n; i++) top = e[i] > top ? e[i] : top;
        for (long i = 0; i < n; i++) e[i] = expf(e[i] - top);
        for (long i = 0; i < n; i++) sum += e[i];
        sum = 1 / sum;
        for (long i = 0; i < n; i++) s[i] = down(e[i] * sum);
        memset(s + n, 0, (t - n) * sizeof *s);
    }
}

/* In place: dp becomes the gradient of the unscaled scores. */
void causal_softmax_backward(long matrices, long t, float scale, const bf16 *p, bf16 *dp) {
#pragma omp parallel for schedule(dynamic, 16)
    for (long row = 0; row < matrices * t; row++) {
        const bf16 *a = p + row * t;
        bf16 *d = dp + row * t;
        long n = row % t + 1;
        float dot = 0;
        for (long i = 0; i < n; i++) dot += up(a[i]) * up(d[i]);
        for (long i = 0; i < n; i++) d[i] = down(up(a[i]) * (up(d[i]) - dot) * scale);
        memset(d + n, 0, (t - n) * sizeof *d);
    }
}

/* loss[r] = cross entropy of row r; the logits become its gradient times `weight`; best[r] = argmax. */
void cross_entropy(long rows, long n, bf16 *logits, const int64_t *target, float weight, float *loss, int64_t *best) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        bf16 *l = logits + r * n;
        float top = -1e30f, sum = 0, e[n];
        for (long i = 0; i < n; i++) e[i] = up(l[i]);
        for (long i = 0; i < n; i++) top = e[i] > top ? e[i] : top;
        float own = e[target[r]];
        long where = 0;
        while (where < n - 1 && e[where] != top) where++;
        best[r] = where;
        for (long i = 0; i < n; i++) e[i] = expf(e[i] - top);
        for (long i = 0; i < n; i++) sum += e[i];
        loss[r] = logf(sum) + top - own;
        float scale = weight / sum;
        for (long i = 0; i < n; i++) l[i] = down(e[i] * scale);
        l[target[r]] = down(e[target[r]] * scale - weight);
    }
}

/* y[r] = sum over j < k of x[index[r * k + j]] */
void gather_sum(long rows, long k, long n, const bf16 *x, const int64_t *index, bf16 *y) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        float sum[n];
        for (long i = 0; i < n; i++) sum[i] = 0;
        for (long j = 0; j < k; j++) {
            const bf16 *xr = x + index[r * k + j] * n;
            for (long i = 0; i < n; i++) sum[i] += up(xr[i]);
        }
        for (long i = 0; i < n; i++) y[r * n + i] = down(sum[i]);
    }
}

void adamw(long n, float *p, const float *g, float *m, float *v, float lr, float beta1, float beta2, float eps, float decay,
           float correct1, float correct2) {
#pragma omp parallel for
    for (long i = 0; i < n; i++) {
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
        p[i] -= lr * (m[i] / correct1 / (sqrtf(v[i] / correct2) + eps) + decay * p[i]);
    }
}
