#include "study/statistics.h"

#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "sampler/noise.h"

/* ---- Of samples ---- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void fr_sort(double *samples, size_t count) {
    if (count > 1) qsort(samples, count, sizeof *samples, ascending);
}

double fr_quantile(const double *sorted, size_t count, double q) {
    double at = q * (double)(count - 1);
    size_t i = at > 0.0 ? (size_t)at : 0;
    if (i + 1 >= count) return sorted[count - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

double fr_mean(const double *samples, size_t count) {
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) sum += samples[i];
    return count > 0 ? sum / (double)count : 0.0;
}

double fr_median(double *samples, size_t count) {
    fr_sort(samples, count);
    return count > 0 ? fr_quantile(samples, count, 0.5) : 0.0;
}

/* ---- Bootstrap ---- */

enum { BOOTSTRAP_KEY = 0x424f4f54 /* apart from the noise that tokens are drawn with */ };

/* Resample number `round`: each pick is a function of seed, round and its place. */
static void pick(uint64_t seed, int round, uint32_t *picked, size_t units) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t block[4];
    for (size_t i = 0; i < units; i++) {
        const uint32_t counter[4] = {(uint32_t)(i / 4), (uint32_t)round, BOOTSTRAP_KEY, 0};
        if (i % 4 == 0) fr_philox(counter, key, block);
        picked[i] = (uint32_t)(((uint64_t)block[i % 4] * units) >> 32);
    }
}

/* The acceleration: a sixth of the skewness of the jackknife values. */
static double acceleration(size_t units, fr_statistic_fn fn, void *user, uint32_t *picked, double *left_out) {
    double mean = 0.0, squares = 0.0, cubes = 0.0;
    for (size_t i = 0; i < units; i++) {
        for (size_t j = 0; j + 1 < units; j++) picked[j] = (uint32_t)(j + (j >= i));
        left_out[i] = fn(user, picked, units - 1);
        mean += left_out[i] / (double)units;
    }
    for (size_t i = 0; i < units; i++) {
        double d = mean - left_out[i];
        squares += d * d;
        cubes += d * d * d;
    }
    return squares > 0.0 ? cubes / (6.0 * squares * sqrt(squares)) : 0.0;
}

/* Which share of the resamples lies below the interval's end that a normal distribution would put at z. */
static double corrected(double z, double z0, double a) {
    double x = z0 + (z0 + z) / (1.0 - a * (z0 + z));
    return fr_normal_cdf(x);
}

/* Share of the resamples below the estimate, of equal ones half: the statistics of small samples have ties. */
static double share_below(const double *sorted, int count, double estimate) {
    double below = 0.0;
    for (int i = 0; i < count; i++) below += sorted[i] < estimate ? 1.0 : sorted[i] == estimate ? 0.5 : 0.0;
    return below / count;
}

static double standard_deviation(const double *values, int count) {
    double mean = fr_mean(values, (size_t)count), squares = 0.0;
    for (int i = 0; i < count; i++) squares += (values[i] - mean) * (values[i] - mean);
    return count > 1 ? sqrt(squares / (count - 1)) : 0.0;
}

static void set_interval(fr_bootstrap *out, const double *sorted, int count, double confidence, bool bca) {
    double low = 0.5 - 0.5 * confidence, high = 0.5 + 0.5 * confidence;
    double below = share_below(sorted, count, out->estimate);
    /* All resamples on one side of the estimate: a correction without end, so percentiles must do. */
    if (bca && below > 0.0 && below < 1.0) {
        out->bias_correction = fr_normal_quantile(below);
        low = corrected(fr_normal_quantile(low), out->bias_correction, out->acceleration);
        high = corrected(fr_normal_quantile(high), out->bias_correction, out->acceleration);
    }
    out->interval.low = fr_quantile(sorted, (size_t)count, low);
    out->interval.high = fr_quantile(sorted, (size_t)count, high);
}

fr_status fr_bootstrap_interval(size_t units, fr_statistic_fn fn, void *user, const fr_bootstrap_options *options,
                                fr_bootstrap *out, fr_error *error) {
    fr_bootstrap_options o = options ? *options : (fr_bootstrap_options){0};
    if (o.resamples <= 0) o.resamples = FR_BOOTSTRAP_RESAMPLES;
    if (o.confidence <= 0.0) o.confidence = 0.95;
    *out = (fr_bootstrap){0};
    if (units == 0 || units > UINT32_MAX) return fr_fail(error, FR_ERROR_ARGUMENT, "bootstrap: %zu units", units);
    fr_status status = FR_OK;
    uint32_t *picked = fr_alloc(units * sizeof *picked);
    double *values = fr_alloc(((size_t)o.resamples + units) * sizeof *values), *left_out = values + o.resamples;
    if (!picked || !values) {
        status = fr_fail(error, FR_ERROR_MEMORY, "bootstrap: out of memory");
        goto done;
    }
    for (size_t i = 0; i < units; i++) picked[i] = (uint32_t)i;
    out->estimate = fn(user, picked, units);
    for (int round = 0; round < o.resamples; round++) {
        pick(o.seed, round, picked, units);
        values[round] = fn(user, picked, units);
        if (!isfinite(values[round])) {
            status = fr_fail(error, FR_ERROR_ARGUMENT, "bootstrap: the statistic of a resample is %g", values[round]);
            goto done;
        }
    }
    fr_sort(values, (size_t)o.resamples);
    out->standard_error = standard_deviation(values, o.resamples);
    bool bca = o.method == FR_BOOTSTRAP_BCA && units > 1;
    if (bca) out->acceleration = acceleration(units, fn, user, picked, left_out);
    set_interval(out, values, o.resamples, o.confidence, bca);
done:
    fr_free(picked);
    fr_free(values);
    return status;
}

double fr_statistic_ratio(void *user, const uint32_t *picked, size_t count) {
    const fr_ratio_units *units = user;
    double over = 0.0, under = 0.0;
    for (size_t i = 0; i < count; i++) {
        over += units->over[picked[i]];
        under += units->under[picked[i]];
    }
    return under != 0.0 ? over / under : 0.0;
}

double fr_statistic_mean(void *user, const uint32_t *picked, size_t count) {
    const fr_value_units *units = user;
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) sum += units->values[picked[i]];
    return count > 0 ? sum / (double)count : 0.0;
}

double fr_statistic_median(void *user, const uint32_t *picked, size_t count) {
    const fr_value_units *units = user;
    for (size_t i = 0; i < count; i++) units->scratch[i] = units->values[picked[i]];
    return fr_median(units->scratch, count);
}

/* ---- Calibration ---- */

void fr_calibration_add(fr_calibration *c, double confidence, bool happened) {
    int bin = (int)(confidence * FR_CALIBRATION_BINS);
    bin = bin < 0 ? 0 : bin < FR_CALIBRATION_BINS ? bin : FR_CALIBRATION_BINS - 1;
    c->count[bin]++;
    c->happened[bin] += happened;
    c->confidence[bin] += confidence;
}

double fr_calibration_error(const fr_calibration *c) {
    double sum = 0.0, count = 0.0;
    for (int i = 0; i < FR_CALIBRATION_BINS; i++) {
        sum += fabs((double)c->happened[i] - c->confidence[i]); /* n |rate - mean confidence| */
        count += (double)c->count[i];
    }
    return count > 0.0 ? sum / count : 0.0;
}
