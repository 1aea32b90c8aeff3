/* The limits: how fast memory is read, and how fast the dot products that prefill runs on can be. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/available.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/kernels/cpu.h"
#include "core/ranks.h"
#include "core/threads.h"
#include "forerun_study.h"
#include "study/bench/bench.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { SWEEPS = 5, PAGE = 4096, LEAST_BUFFER_MB = 512, RUN_WORDS = 32 };

_Static_assert(PAGE / sizeof(uint64_t) % (RUN_WORDS * 8) == 0, "a page is whole runs of each of 8 streams");

const int fr_bench_streams[FR_BENCH_READS] = {1, 4, 8};

/* ---- Reading memory ---- */

/* count: a multiple of PAGE. From one place, or from some in turn, four cache lines at a time: how much of memory's latency the
 * hardware hides depends on how many runs it sees. */
static inline __attribute__((always_inline)) uint64_t sum_words(const uint64_t *p, size_t count, size_t streams) {
    uint64_t sum[RUN_WORDS] = {0}, all = 0;
    size_t part = count / streams;
    for (size_t i = 0; i < part; i += RUN_WORDS)
        for (size_t s = 0; s < streams; s++)
            for (size_t j = 0; j < RUN_WORDS; j++) sum[j] += p[s * part + i + j];
    for (int j = 0; j < RUN_WORDS; j++) all += sum[j];
    return all;
}

static inline __attribute__((always_inline)) uint64_t sum_streams(const uint64_t *p, size_t count, int streams) {
    return streams == 8 ? sum_words(p, count, 8) : streams == 4 ? sum_words(p, count, 4) : sum_words(p, count, 1);
}

static uint64_t sum_plain(const uint64_t *p, size_t count, int streams) {
    return sum_streams(p, count, streams);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t sum_avx2(const uint64_t *p, size_t count, int streams) {
    return sum_streams(p, count, streams);
}
#else
#define sum_avx2 sum_plain
#endif

/* This thread's part of the buffer, in pages. */
static void own_part(const fr_bench_run *b, size_t *begin, size_t *end) {
    size_t pages = b->result->read_buffer_bytes / PAGE, words = PAGE / sizeof(uint64_t);
    size_t rank = (size_t)fr_team_rank(), size = (size_t)fr_team_size();
    *begin = pages * rank / size * words;
    *end = pages * (rank + 1) / size * words;
}

typedef struct read_work {
    const fr_bench_run *b;
    int streams;
    double seconds;
    atomic_ullong sum; /* so that the sums are needed */
} read_work;

/* TEAM. */
static void read_buffer(void *argument) {
    read_work *work = argument;
    uint64_t (*sum)(const uint64_t *, size_t, int) = fr_cpu_get()->avx2 ? sum_avx2 : sum_plain;
    size_t begin, end;
    own_part(work->b, &begin, &end);
    fr_team_barrier();
    double start = fr_now();
    uint64_t all = sum(work->b->buffer + begin, end - begin, work->streams);
    fr_team_barrier();
    if (fr_team_rank() == 0) work->seconds = fr_now() - start;
    atomic_fetch_add(&work->sum, all);
}

/* Bytes a second, all threads together. */
static double read_bandwidth(const fr_bench_run *b, int streams) {
    read_work work = {.b = b, .streams = streams};
    fr_team_run(b->model->threads, read_buffer, &work);
    return fr_bench_share((double)b->result->read_buffer_bytes, work.seconds);
}

/* ---- What there is ---- */

static uint64_t last_level_cache(void) {
    uint64_t bytes = 0;
#ifdef __linux__
    /* One line of /sys a cache: it is counted at the first CPU of those that share it. */
    for (int cpu = 0; cpu < 4096; cpu++) {
        char path[96], line[64], unit = 0;
        unsigned long long size = 0;
        int first = -1;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index3/shared_cpu_list", cpu);
        bool there = fr_read_line(path, line, sizeof line);
        if (!there && cpu == 0) break;
        if (!there || sscanf(line, "%d", &first) != 1 || first != cpu) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index3/size", cpu);
        if (fr_read_line(path, line, sizeof line) && sscanf(line, "%llu%c", &size, &unit) == 2)
            bytes += size << (unit == 'M' ? 20 : unit == 'K' ? 10 : 0);
    }
#endif
#ifdef _SC_LEVEL3_CACHE_SIZE
    long told = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (told > 0 && (uint64_t)told > bytes) bytes = (uint64_t)told;
#endif
    return bytes;
}

/* Pages lie near the thread that touches them first; TEAM. */
static void touch_buffer(void *argument) {
    const fr_bench_run *b = argument;
    size_t begin, end;
    own_part(b, &begin, &end);
    for (size_t i = begin; i < end; i++) b->buffer[i] = i;
}

fr_status fr_bench_prepare_machine(fr_bench_run *b, fr_error *error) {
    fr_bench_result *r = b->result;
    uint64_t bytes, available = fr_available_memory("");
    r->cache_bytes = last_level_cache();
    bytes = 4 * r->cache_bytes > (uint64_t)LEAST_BUFFER_MB << 20 ? 4 * r->cache_bytes : (uint64_t)LEAST_BUFFER_MB << 20;
    if (available && bytes > available / 2) bytes = available / 2;
    r->read_buffer_bytes = bytes / PAGE * PAGE;
    b->buffer = fr_alloc(r->read_buffer_bytes);
    if (!b->buffer)
        return fr_fail(error, FR_ERROR_MEMORY, "bench: %llu bytes to read cannot be allocated",
                       (unsigned long long)r->read_buffer_bytes);
    fr_team_run(b->model->threads, touch_buffer, b);
    return FR_OK;
}

/* ---- Products ---- */

#if defined(__x86_64__)
/* Products on registers alone: `name` returns the floating-point operations, `each` a product. Twelve sums hide the latency, and
 * the compiler may not see that each round is the same. */
#define MULTIPLY_IN_REGISTERS(name, isa, vector, operand, zero, value, product, add, each)                                       \
    __attribute__((target(isa))) static double name(int repeats) {                                                               \
        vector sum[12];                                                                                                          \
        operand a = value, c = value;                                                                                            \
        for (int i = 0; i < 12; i++) sum[i] = zero();                                                                            \
        for (int r = 0; r < repeats; r++) {                                                                                      \
            for (int i = 0; i < 12; i++) sum[i] = product;                                                                       \
            __asm__ volatile("" : "+v"(a));                                                                                      \
        }                                                                                                                        \
        for (int i = 1; i < 12; i++) sum[0] = add(sum[0], sum[i]);                                                               \
        __asm__ volatile("" : : "v"(sum[0]));                                                                                    \
        return 12.0 * (each)*repeats;                                                                                            \
    }

MULTIPLY_IN_REGISTERS(multiply_bf16, "avx512f,avx512bf16", __m512, __m512bh, _mm512_setzero_ps,
                      (__m512bh)_mm512_set1_epi32(0x3f003f00), _mm512_dpbf16_ps(sum[i], a, c), _mm512_add_ps, 64)
MULTIPLY_IN_REGISTERS(multiply_f32_avx512, "avx512f", __m512, __m512, _mm512_setzero_ps, _mm512_set1_ps(0.5f),
                      _mm512_fmadd_ps(a, c, sum[i]), _mm512_add_ps, 32)
MULTIPLY_IN_REGISTERS(multiply_f32_avx2, "avx2,fma", __m256, __m256, _mm256_setzero_ps, _mm256_set1_ps(0.5f),
                      _mm256_fmadd_ps(a, c, sum[i]), _mm256_add_ps, 16)
#endif

/* The instruction that prefill's products are made of, where fr_linear_tile has some. */
static double multiply_in_registers(const fr_kernels *kernels, int repeats) {
#if defined(__x86_64__)
    if (kernels->prefill) return multiply_bf16(repeats);
    return kernels->isa == FR_ISA_AVX2 ? multiply_f32_avx2(repeats) : multiply_f32_avx512(repeats);
#else
    (void)kernels, (void)repeats;
    return 0.0;
#endif
}

typedef struct peak_work {
    const fr_kernels *kernels;
    bool tile;
    char *memory;
    size_t bytes; /* a thread */
    int repeats;
    double operations, seconds;
} peak_work;

/* TEAM. */
static void run_peak(void *argument) {
    peak_work *work = argument;
    char *own = work->memory + (size_t)fr_team_rank() * work->bytes;
    fr_team_barrier();
    double start = fr_now();
    double operations =
        work->tile ? fr_linear_tile(work->kernels, own, work->repeats) : multiply_in_registers(work->kernels, work->repeats);
    fr_team_barrier();
    if (fr_team_rank() > 0) return;
    work->seconds = fr_now() - start;
    work->operations = operations * fr_team_size(); /* each did the same */
}

/* Floating-point operations a second of all threads together. */
static double peak(const fr_bench_run *b, peak_work *work, int repeats) {
    work->repeats = repeats;
    fr_team_run(b->model->threads, run_peak, work);
    return fr_bench_share(work->operations, work->seconds);
}

/* Samples of some milliseconds each. */
static void measure_peak(const fr_bench_run *b, peak_work *work, fr_bench_limit *limit) {
    const double wanted = 4e-3;
    int repeats = 100;
    for (int i = 0; i < 20; i++) { /* warms up, too */
        double start = fr_now();
        peak(b, work, repeats);
        if (fr_now() - start > wanted) break;
        repeats *= 2;
    }
    for (int i = 0; i < SWEEPS && limit->count < FR_BENCH_LIMIT_SAMPLES; i++)
        limit->samples[limit->count++] = peak(b, work, repeats);
}

typedef struct barrier_work {
    int barriers, threads;
    double seconds; /* 0: not all threads took part */
} barrier_work;

/* TEAM. */
static void meet(void *argument) {
    barrier_work *work = argument;
    fr_team_barrier();
    double start = fr_now();
    for (int i = 0; i < work->barriers; i++) fr_team_barrier();
    if (fr_team_rank() == 0) work->seconds = fr_team_size() == work->threads ? fr_now() - start : 0.0;
}

static void measure_barrier(fr_bench_run *b) {
    barrier_work work = {.barriers = 1000, .threads = b->model->threads};
    for (int i = -1; i < SWEEPS && b->barrier.count < FR_BENCH_LIMIT_SAMPLES; i++) {
        fr_team_run(b->model->threads, meet, &work);
        if (i >= 0 && work.seconds > 0.0) b->barrier.samples[b->barrier.count++] = work.seconds / work.barriers;
    }
}

/* One exchange of a row of hidden states. Every rank calls it equally often. */
static double exchange(const fr_bench_run *b, float *row, int *counts, int *at) {
    enum { EXCHANGES = 100 };
    const fr_ranks *ranks = b->model->ranks;
    const int width = b->model->config.hidden_size;
    for (int i = 0; i < ranks->size; i++) {
        int begin, end;
        fr_ranks_part(ranks, i, width, fr_cut_unit(width, ranks->size), &begin, &end);
        at[i] = begin * (int)sizeof *row;
        counts[i] = (end - begin) * (int)sizeof *row;
    }
    double start = fr_now();
    for (int i = 0; i < EXCHANGES; i++) ranks->gather(ranks, row, counts, at);
    return (fr_now() - start) / EXCHANGES;
}

static void measure_exchange(fr_bench_run *b) {
    const int size = b->model->ranks->size;
    float *row = fr_alloc_zeroed((size_t)b->model->config.hidden_size, sizeof *row);
    int *counts = fr_alloc_zeroed((size_t)size * 2, sizeof *counts);
    bool there = row && counts;
    if (fr_ranks_agree(b->model->ranks, there ? FR_OK : FR_ERROR_MEMORY, NULL) == FR_OK) {
        for (int i = -1; i < SWEEPS && b->exchange.count < FR_BENCH_LIMIT_SAMPLES; i++) {
            double seconds = exchange(b, row, counts, counts + size);
            if (i >= 0) b->exchange.samples[b->exchange.count++] = seconds;
        }
    }
    fr_free(row);
    fr_free(counts);
}

void fr_bench_measure_machine(fr_bench_run *b) {
    fr_team_pin(b->model->pinned); /* as passes are */
    measure_barrier(b);
    if (b->model->ranks->size > 1) measure_exchange(b);
    for (int i = -1; i < SWEEPS && b->read[0].count < FR_BENCH_LIMIT_SAMPLES; i++) {
        for (int v = 0; v < FR_BENCH_READS; v++) {
            double bandwidth = read_bandwidth(b, fr_bench_streams[v]);
            if (i >= 0) b->read[v].samples[b->read[v].count++] = bandwidth;
        }
    }
    size_t bytes = fr_linear_tile_bytes(b->model->kernels);
    if (bytes == 0) return; /* prefill is portable */
    peak_work tile = {
        .kernels = b->model->kernels, .tile = true, .memory = fr_alloc((size_t)b->model->threads * bytes), .bytes = bytes};
    peak_work registers = {.kernels = b->model->kernels, .tile = false};
    if (tile.memory) measure_peak(b, &tile, &b->tile_peak);
    measure_peak(b, &registers, &b->register_peak);
    fr_free(tile.memory);
}
