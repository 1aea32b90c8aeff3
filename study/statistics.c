#include "study/statistics.h"

#include <math.h>
#include <stdlib.h>

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

/* ---- Estimates with their intervals ---- */

static const double covered = 0.95, normal95 = 1.959963984540054;
static const fr_interval no_interval = {NAN, NAN};

/* The chance of |t| < sqrt(degrees) tan(angle): Abramowitz and Stegun 26.7.3 and 26.7.4. */
static double student_within(double angle, size_t degrees) {
    double sine = sin(angle), cosine = cos(angle), sum = 0.0;
    bool odd = degrees % 2 == 1;
    double term = odd ? cosine : 1.0;
    for (size_t i = odd ? 3 : 2; i <= degrees; i += 2) {
        sum += term;
        term *= cosine * cosine * (double)(i - 1) / (double)i;
    }
    return odd ? (angle + sine * sum) * M_2_PI : sine * sum;
}

double fr_student95(size_t degrees) {
    double low = 0.0, high = M_PI_2, nu = (double)degrees, z = normal95;
    if (degrees > 1000) return z + (z * z * z + z) / (4.0 * nu); /* right to 3e-6: 26.7.5 */
    for (int i = 0; i < 50; i++) {
        double middle = 0.5 * (low + high);
        *(student_within(middle, degrees) < covered ? &low : &high) = middle;
    }
    return sqrt(nu) * tan(high);
}

enum { MOST_COLUMNS = 4 };

/* Columns [units] (NULL: 1 each), and an estimate that is a function of their sums. */
typedef struct sample {
    const double *columns[MOST_COLUMNS];
    size_t units;
    double (*estimate)(const double *sums);
} sample;

static double value_of(const sample *s, size_t unit, int column) {
    return s->columns[column] ? s->columns[column][unit] : 1.0;
}

static void sum_up(const sample *s, double *sums) {
    for (int c = 0; c < MOST_COLUMNS; c++) {
        sums[c] = 0.0;
        for (size_t i = 0; i < s->units; i++) sums[c] += value_of(s, i, c);
    }
}

/* The variance of the estimate: the sum of the squares of what leaving one unit out changes, times the jackknife's (n - 1) / n
 * where all units weigh the same. */
static double leave_one_out(const sample *s, const double *sums) {
    double whole = s->estimate(sums), squares = 0.0;
    for (size_t i = 0; i < s->units; i++) {
        double others[MOST_COLUMNS];
        for (int c = 0; c < MOST_COLUMNS; c++) others[c] = sums[c] - value_of(s, i, c);
        double change = s->estimate(others) - whole;
        squares += change * change;
    }
    return s->columns[1] ? squares : squares * (double)(s->units - 1) / (double)s->units;
}

static fr_estimated estimate_of(const sample *s) {
    double sums[MOST_COLUMNS];
    fr_estimated out = {NAN, no_interval};
    if (s->units == 0) return out;
    sum_up(s, sums);
    out.value = s->estimate(sums);
    if (s->units < FR_LEAST_UNITS) return out;
    double half = fr_student95(s->units - 1) * sqrt(leave_one_out(s, sums));
    out.interval = (fr_interval){out.value - half, out.value + half};
    return out;
}

/* From logarithms. */
static fr_estimated raised(fr_estimated of) {
    return (fr_estimated){exp(of.value), {exp(of.interval.low), exp(of.interval.high)}};
}

static double quotient(const double *sums) {
    return sums[0] / sums[1];
}

static double log_quotient(const double *sums) {
    return log(sums[0] / sums[1]);
}

static double difference(const double *sums) {
    return sums[2] / sums[3] - sums[0] / sums[1];
}

static double log_ratio(const double *sums) {
    return log(sums[2] / sums[3]) - log(sums[0] / sums[1]);
}

/* Wilson's interval depends on the trials n and the quantile z by z^2 / n alone, and their share's variance is p (1 - p) / n. So
 * t^2 variance / (p (1 - p)) stands for z^2 / n. Where all units have the same share, as of none or of all accepted, they show no
 * variance: there every part of a whole is a trial. */
fr_estimated fr_estimate_share(fr_sums of, size_t units) {
    sample s = {{of.part, of.whole}, units, quotient};
    double sums[MOST_COLUMNS];
    fr_estimated out = {NAN, no_interval};
    if (units == 0) return out;
    sum_up(&s, sums);
    double p = out.value = quotient(sums), binomial = p * (1.0 - p), variance = leave_one_out(&s, sums);
    if (units < FR_LEAST_UNITS) return out;
    double t = fr_student95(units - 1), k = normal95 * normal95 / sums[1];
    if (binomial > 0.0 && variance > 1e-12 * binomial) k = t * t * variance / binomial;
    double middle = p + 0.5 * k, half = sqrt(k * binomial + 0.25 * k * k);
    /* Of none and of all the formula gives 0 and 1, which floating point misses by an ulp. */
    out.interval.low = sums[0] > 0.0 ? (middle - half) / (1.0 + k) : 0.0;
    out.interval.high = sums[0] < sums[1] ? (middle + half) / (1.0 + k) : 1.0;
    return out;
}

fr_estimated fr_estimate_difference(fr_sums a, fr_sums b, size_t units) {
    fr_estimated out = estimate_of(&(sample){{a.part, a.whole, b.part, b.whole}, units, difference});
    if (out.interval.low == out.interval.high) out.interval = no_interval; /* no unit differs from the others */
    return out;
}

fr_estimated fr_estimate_ratio(fr_sums a, fr_sums b, size_t units) {
    return raised(estimate_of(&(sample){{a.part, a.whole, b.part, b.whole}, units, log_ratio}));
}

fr_estimated fr_estimate_mean(const double *values, size_t units) {
    return raised(estimate_of(&(sample){{values}, units, log_quotient}));
}

fr_estimated fr_estimate_geometric_mean(const double *logarithms, size_t units) {
    return raised(estimate_of(&(sample){{logarithms}, units, quotient}));
}

/* The chance that half of n fair coins, rounded down, show heads. */
static double middle_chance(size_t n) {
    double chance = 1.0;
    size_t half = n / 2;
    for (size_t i = 1; i <= half; i++) chance *= (double)(2 * i - 1) / (double)(2 * i);
    return n % 2 ? chance * (double)n / (double)(2 * half + 2) : chance;
}

/* The median lies between the d-th value and the d-th from above unless fewer than d of n coins show heads, or tails. d falls
 * until that has the confidence asked for; the next narrower pair has less, and the ends are put between the two. */
fr_estimated fr_estimate_median(double *values, size_t units) {
    fr_estimated out = {NAN, no_interval};
    if (units == 0) return out;
    out.value = fr_median(values, units);
    if (units < FR_LEAST_UNITS) return out;
    size_t d = units / 2;
    double n = (double)units, chance = middle_chance(units), narrower = 0.0, within = units % 2 ? 2.0 * chance : chance;
    while (within < covered && d > 1) {
        chance *= (double)d / (double)(units - d + 1);
        narrower = within;
        within += 2.0 * chance;
        d--;
    }
    double off = fmax(0.0, (within - covered) / (within - narrower));
    double inward = (n - (double)d) * off / ((double)d + (n - 2.0 * (double)d) * off);
    const double *low = values + d - 1, *high = values + units - d;
    out.interval.low = low[0] + inward * (low[1] - low[0]);
    out.interval.high = high[0] - inward * (high[0] - high[-1]);
    return out;
}

/* ---- Calibration ---- */

void fr_calibration_add(fr_calibration *c, double confidence, bool happened) {
    int bin = (int)(confidence * FR_CALIBRATION_BINS);
    bin = bin < 0 ? 0 : bin < FR_CALIBRATION_BINS ? bin : FR_CALIBRATION_BINS - 1;
    c->count[bin]++;
    c->happened[bin] += happened;
    c->confidence[bin] += confidence;
}

void fr_calibration_merge(fr_calibration *to, const fr_calibration *from) {
    for (int i = 0; i < FR_CALIBRATION_BINS; i++) {
        to->count[i] += from->count[i];
        to->happened[i] += from->happened[i];
        to->confidence[i] += from->confidence[i];
    }
}

double fr_calibration_error(const fr_calibration *c) {
    double sum = 0.0, count = 0.0;
    for (int i = 0; i < FR_CALIBRATION_BINS; i++) {
        sum += fabs((double)c->happened[i] - c->confidence[i]); /* n |rate - mean confidence| */
        count += (double)c->count[i];
    }
    return count > 0.0 ? sum / count : 0.0;
}
