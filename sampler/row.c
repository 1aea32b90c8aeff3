#include "sampler/row.h"

#include <string.h>

#include "core/threads.h"

static int chunks_of(int vocab_size) {
    return (vocab_size + FR_ROW_CHUNK - 1) / FR_ROW_CHUNK;
}

void fr_row_take(fr_row *row, fr_arena *arena, int vocab_size, bool greedy, const fr_kernels *kernels, int threads) {
    row->vocab_size = vocab_size;
    row->kernels = kernels;
    row->chunk_max = FR_TAKE(arena, float, chunks_of(vocab_size));
    row->chunk_sum = FR_TAKE(arena, double, chunks_of(vocab_size));
    if (greedy) return;
    row->weight = FR_TAKE(arena, double, vocab_size);
    row->bin = FR_TAKE(arena, uint8_t, vocab_size);
    row->part = FR_TAKE(arena, fr_row_bins, threads);
    row->whole = FR_TAKE(arena, fr_row_bins, 1);
}

static int chunk_length(const fr_row *row, int at) {
    return row->vocab_size - at < FR_ROW_CHUNK ? row->vocab_size - at : FR_ROW_CHUNK;
}

/* ---- The peak ---- */

static float highest(const float *x, int n) {
    float lane[16], most = -INFINITY;
    int i = 0;
    for (int j = 0; j < 16; j++) lane[j] = -INFINITY;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (; i < n; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    for (int j = 0; j < 16; j++) most = lane[j] > most ? lane[j] : most;
    return most;
}

fr_peak fr_row_peak(fr_row *row, const float *x) {
    int begin, end, first = 0;
    fr_peak peak = {-INFINITY, 0};
    fr_team_split(row->vocab_size, FR_ROW_CHUNK, &begin, &end);
    for (int at = begin; at < end; at += FR_ROW_CHUNK) row->chunk_max[at / FR_ROW_CHUNK] = highest(x + at, chunk_length(row, at));
    fr_team_barrier();
    for (int c = 0; c < chunks_of(row->vocab_size); c++) {
        if (!(row->chunk_max[c] > peak.value)) continue;
        peak.value = row->chunk_max[c];
        first = c * FR_ROW_CHUNK;
    }
    for (peak.id = first; peak.id < row->vocab_size - 1 && x[peak.id] != peak.value;) peak.id++;
    return peak;
}

/* ---- Sums ---- */

/* The chunks' sums, when all threads have theirs. */
static double total(const fr_row *row) {
    double sum = 0.0;
    fr_team_barrier();
    for (int c = 0; c < chunks_of(row->vocab_size); c++) sum += row->chunk_sum[c];
    return sum;
}

/* The sum of exp(x - peak); beside an infinite peak only what equals it counts. */
static double sum_exp(const fr_row *row, const float *x, float peak, int n) {
    float e[FR_ROW_CHUNK];
    if (isinf(peak)) {
        int count = 0;
        for (int i = 0; i < n; i++) count += x[i] == peak;
        return count;
    }
    memcpy(e, x, (size_t)n * sizeof *e);
    return row->kernels->exp_sub(e, peak, n);
}

double fr_row_confidence(fr_row *row, const float *x, fr_peak peak) {
    int begin, end;
    fr_team_split(row->vocab_size, FR_ROW_CHUNK, &begin, &end);
    for (int at = begin; at < end; at += FR_ROW_CHUNK)
        row->chunk_sum[at / FR_ROW_CHUNK] = sum_exp(row, x + at, peak.value, chunk_length(row, at));
    double sum = total(row);
    return sum >= 1.0 ? 1.0 / sum : 0.0;
}

double fr_row_weigh(fr_row *row, const float *x, fr_peak peak, float temperature) {
    fr_row_bins *bins = &row->part[fr_team_rank()];
    double top = fr_row_score(peak.value, temperature);
    int begin, end;
    memset(bins, 0, sizeof *bins);
    fr_team_split(row->vocab_size, FR_ROW_CHUNK, &begin, &end);
    for (int at = begin; at < end; at += FR_ROW_CHUNK) {
        double sum = 0.0;
        for (int i = at; i < at + chunk_length(row, at); i++) {
            double score = fr_row_score(x[i], temperature), gap = score < top ? top - score : 0.0;
            double weight = exp(-gap);
            int bin = fr_row_bin(gap);
            row->weight[i] = weight;
            row->bin[i] = (uint8_t)bin;
            bins->count[bin]++;
            bins->mass[bin] += (uint64_t)(weight * 0x1p40);
            sum += weight;
        }
        row->chunk_sum[at / FR_ROW_CHUNK] = sum;
    }
    double sum = total(row);
    fr_team_split(FR_ROW_BINS, 8, &begin, &end);
    for (int b = begin; b < end; b++) {
        row->whole->mass[b] = row->whole->count[b] = 0;
        for (int t = 0; t < fr_team_size(); t++) {
            row->whole->mass[b] += row->part[t].mass[b];
            row->whole->count[b] += row->part[t].count[b];
        }
    }
    fr_team_barrier();
    return sum;
}
