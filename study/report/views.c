#include "study/report/views.h"

#include <math.h>
#include <stdio.h>

#include "core/json.h"

/* The view of the columns in `list`. */
#define VIEW(list, ...)                                                                                                          \
    const fr_view fr_view_##list = {.columns = list, .num_columns = (int)(sizeof list / sizeof *list), __VA_ARGS__}
static const char *const all[] = {NULL}; /* besides nothing */

double fr_column_number(const fr_column *column, const cJSON *item) {
    const cJSON *within = column->in ? fr_path_object(item, column->in) : item;
    if (column->of) within = fr_json_find(within, column->of);
    if (!column->path) return cJSON_IsNumber(within) ? within->valuedouble : NAN;
    return fr_path_number(within, column->path);
}

void fr_column_interval(const fr_column *column, const cJSON *item, double *low, double *high) {
    *low = *high = NAN;
    if (column->interval) fr_path_interval(item, column->interval, low, high);
}

const char *fr_column_text(const fr_column *column, const cJSON *item, char *text) {
    const char *said = fr_path_text(item, column->path), *a = fr_path_text(item, "a"), *b = fr_path_text(item, "b");
    double low, high;
    switch (column->kind) {
    case FR_CELL_VERDICT:
        fr_path_interval(item, "speedup.ci95", &low, &high);
        return said ? said : low > 1 ? "faster" : high < 1 ? "slower" : "undecided";
    case FR_CELL_SPEED:
    case FR_CELL_PAIR:
        if (column->kind == FR_CELL_SPEED && said)
            snprintf(text, FR_NAME_BYTES, "%.60s, tokens/s", said);
        else
            snprintf(text, FR_NAME_BYTES, "%.60s over %.60s", b ? b : "?", a ? a : "?");
        return text;
    default:
        return said ? said : column->otherwise;
    }
}

/* ---- forerun.ab/1 ------------------------------------------------------------------------------------------------ */

static const fr_column arms[] = {
    {"name", "arm", "arm", .otherwise = "?", .kind = FR_CELL_TEXT},
    {"decode_tokens_per_s.median", "tokens/s", "decode, tokens/s", .digits = 1, .p05_p95 = "decode_tokens_per_s"},
    {"tpot_ms.p50", "TPOT ms", "TPOT p50", .digits = 2},
    {"tpot_ms.p90", "p90", "p90", .digits = 2},
    {"tpot_ms.p99", "p99", "p99", .digits = 2},
    {"inter_token_ms.p50", .page = "inter-token p50"},
    {"inter_token_ms.p90", .page = "p90"},
    {"inter_token_ms.p99", "token p99", "p99", .digits = 2},
    {"ttft_ms.p50", "TTFT ms", "TTFT p50", .digits = 1},
    {"ttft_ms.p90", .page = "p90"},
    {"ttft_ms.p99", .page = "p99"},
    {"prefill_tokens_per_s.median", "prefill/s", .page = "prefill, tokens/s"},
    {"energy_j_per_token", "J/token", "J/token", .digits = 3},
    {"speculative_decoding.acceptance_rate", "accepted", .unit = FR_UNIT_PERCENT},
    {"speculative_decoding.acceptance_rate", .page = "accepted", .unit = FR_UNIT_PERCENT, .interval = "acceptance_rate_ci95"},
    {"tokens", .page = "tokens", .unit = FR_UNIT_COUNT},
};
VIEW(arms, .caption = "Throughput and latency of each arm; times in milliseconds", .table = "arm", .array = "arms",
     .configuration = true, .besides = all);

static const fr_column comparisons[] = {
    {"", "speedup", "comparison", .kind = FR_CELL_PAIR},
    {"speedup.median", "median", "speedup, median", "speedup_median", FR_UNIT_TIMES, "speedup.ci95", "pairs", .bar = true},
    {"speedup.geometric_mean", "geo. mean", .unit = FR_UNIT_TIMES},
    {"speedup.total", "total", .unit = FR_UNIT_TIMES},
    {"verdict", "verdict", .kind = FR_CELL_TEXT},
    {"slower_prompts.count", "slower prompts", .n = "units", .kind = FR_CELL_OF},
    {"speedup.geometric_mean", NULL, "geometric mean", "speedup_geometric_mean", FR_UNIT_TIMES, "speedup.geometric_mean_ci95",
     .n = "pairs"},
    {"speedup.total", NULL, "ratio of total times", "speedup_total", FR_UNIT_TIMES, "speedup.total_ci95", .n = "pairs"},
    {"speedup.mean", .csv = "speedup_mean", .interval = "speedup.mean_ci95", .n = "pairs"},
    {"pairs", .page = "pairs", .unit = FR_UNIT_COUNT},
    {"slower_prompts.count", .page = "prompts slower", .csv = "slower_prompts", .unit = FR_UNIT_COUNT},
    {"slower_prompts.share", .page = "share slower", .csv = "slower_share", .unit = FR_UNIT_PERCENT, .n = "units"},
    {"slower_prompts.beyond_noise", .page = "slower beyond noise", .csv = "slower_beyond_noise", .unit = FR_UNIT_COUNT},
    {"verdict", .page = "verdict", .kind = FR_CELL_VERDICT},
};
VIEW(comparisons, .caption = "Speedup of decoding, tokens a second over tokens a second, paired by prompt", .table = "comparison",
     .array = "comparisons");

static const fr_column noise[] = {
    {"", .kind = FR_CELL_PAIR},
    {"ratio.median", .csv = "ratio_median", .interval = "ratio.ci95"},
    {"ratio.total", .csv = "ratio_total", .interval = "ratio.total_ci95"},
    {"spread", .csv = "spread"},
    {"resolution", .csv = "resolution"},
};
VIEW(noise, .table = "noise", .array = "noise", .one = true);

static const fr_column synthetic[] = {
    {"target", "synthetic", .digits = -1},
    {"acceptance", "accepted", .unit = FR_UNIT_PERCENT},
    {"acceptance", .csv = "acceptance", .interval = "acceptance_ci95", .n = "judged"},
    {"speedup.median", "speedup", NULL, "speedup_median", FR_UNIT_TIMES, "speedup.ci95", .bar = true},
    {"speedup.geometric_mean", .csv = "speedup_geometric_mean", .interval = "speedup.geometric_mean_ci95"},
    {"speedup.total", "total", .unit = FR_UNIT_TIMES},
    {"speedup.total", .csv = "speedup_total", .interval = "speedup.total_ci95"},
    {"speedup.mean", .csv = "speedup_mean", .interval = "speedup.mean_ci95"},
    {"predicted_speedup", "predicted", .unit = FR_UNIT_TIMES},
};
static const char *const synthetic_besides[] = {"target", "acceptance", "speedup", NULL};
VIEW(synthetic, .table = "synthetic", .array = "synthetic", .besides = synthetic_besides);

static const fr_column cost[] = {
    {.path = NULL},
    {"pass_ms.0", .page = "a pass of one row", .unit = FR_UNIT_MS},
    {"acceptance_rate", .page = "acceptance rate", .unit = FR_UNIT_PERCENT},
    {"break_even_acceptance", .page = "acceptance at which drafting begins to pay", .unit = FR_UNIT_PERCENT},
    {"expert_overlap", .page = "experts that a token shares with the one before", .unit = FR_UNIT_PERCENT},
    {"draft_ms", .page = "one draft", .unit = FR_UNIT_MS},
    {"predicted_speedup", .page = "predicted speedup", .unit = FR_UNIT_TIMES},
    {"measured_speedup", .page = "measured speedup, likewise a ratio of total times", .unit = FR_UNIT_TIMES},
    {"of_prediction", .page = "measured over predicted", .unit = FR_UNIT_PERCENT},
};
VIEW(cost, .caption = "What drafting should bring, and brought", .table = "cost_model", .array = "cost_model", .one = true,
     .besides = all);

static const fr_column cost_arms[] = {
    {"name", "cost model", .kind = FR_CELL_TEXT},
    {"acceptance_rate", "accepted", .unit = FR_UNIT_PERCENT},
    {"tokens_per_cycle", "tokens/cycle", .digits = 2},
    {"predicted_speedup", "predicted", .unit = FR_UNIT_TIMES},
    {"measured_speedup", "measured", .unit = FR_UNIT_TIMES},
    {"of_prediction", "reached", .unit = FR_UNIT_PERCENT},
    {"speedup_by_bytes", "by bytes", .unit = FR_UNIT_TIMES},
    {"break_even_acceptance", "break-even", .unit = FR_UNIT_PERCENT},
};
VIEW(cost_arms, .table = "cost_model", .array = "cost_model.arms", .configuration = true, .besides = all);

static const fr_column curve[] = {
    {.path = "acceptance"},
    {"speedup", .csv = "speedup"},
    {"speedup_by_bytes", .csv = "speedup_by_bytes"},
};
VIEW(curve, .table = "predicted_by_acceptance", .array = "cost_model.curve");

/* Speeds of arms, then speedups: two arrays, one table. */
static const fr_column compared_arms[] = {
    {"name", "against before", "figure", .kind = FR_CELL_SPEED},
    {"before", "before", "before", "before", .digits = 1},
    {"after", "after", "after", "after", .digits = 1},
    {"ratio", "ratio", "ratio", "ratio", FR_UNIT_TIMES, "ci95", "prompts", .digits = 3},
    {"prompts", .page = "prompts", .unit = FR_UNIT_COUNT},
    {"verdict", "verdict", "verdict", .kind = FR_CELL_TEXT},
};
static const fr_column compared_speedups[] = {
    {"", "against before", "figure", .kind = FR_CELL_PAIR},
    {"before", "before", "before", "before", .unit = FR_UNIT_TIMES},
    {"after", "after", "after", "after", .unit = FR_UNIT_TIMES},
    {"ratio", "ratio", "ratio", "ratio", FR_UNIT_TIMES, "ci95", "prompts", .digits = 3},
    {"prompts", .page = "prompts", .unit = FR_UNIT_COUNT},
    {"verdict", "verdict", "verdict", .kind = FR_CELL_TEXT},
};
VIEW(compared_arms, .caption = "This run against the one before", .table = "compare", .array = "compare.arms",
     .configuration = true);
VIEW(compared_speedups, .table = "compare", .array = "compare.comparisons");

/* ---- forerun.accept/1 -------------------------------------------------------------------------------------------- */

static const fr_column configurations[] = {
    {"name", "configuration", "configuration", .otherwise = "configuration", .kind = FR_CELL_TEXT},
    {"mode", .page = "mode", .kind = FR_CELL_TEXT},
    {"depth", .page = "depth", .unit = FR_UNIT_COUNT},
    {"temperature", .page = "temperature"},
    {"verify", .page = "verify", .kind = FR_CELL_TEXT},
    {"speculative_decoding.num_draft_tokens", "drafted", "drafts", .unit = FR_UNIT_COUNT},
    {"speculative_decoding.acceptance_rate", "accepted", "acceptance", "acceptance_rate", FR_UNIT_PERCENT,
     "acceptance_rate_ci95|speculative_decoding.acceptance_rate_ci95", "speculative_decoding.num_draft_tokens", .bar = true},
    {"speculative_decoding.mean_acceptance_length", "mean length", "mean length", "mean_acceptance_length",
     .interval = "mean_acceptance_length_ci95", .n = "speculative_decoding.num_drafts", .digits = 3},
};
VIEW(configurations, .title = "configurations: accepted of drafted, 95 % interval by prompts",
     .caption = "Each configuration; the headings sort", .table = "configuration", .array = "configurations",
     .configuration = true, .sorts = true);

static const fr_column pairs[] = {
    {"", .kind = FR_CELL_PAIR},
    {"b", "configuration", "configuration", .kind = FR_CELL_TEXT},
    {"against", "against", "against", .kind = FR_CELL_TEXT},
    {"mean_acceptance_length_difference", "mean length", "mean length", "mean_acceptance_length_difference",
     .interval = "mean_acceptance_length_ci95", .n = "prompts", .digits = 3},
    {"acceptance_rate_difference", "accepted", "acceptance", "acceptance_rate_difference", FR_UNIT_PERCENT,
     "acceptance_rate_ci95", .n = "prompts"},
    {"prompts", .page = "prompts", .unit = FR_UNIT_COUNT},
    {"verdict", "verdict", "verdict", .kind = FR_CELL_TEXT},
};
VIEW(pairs, .title = "differences between configurations, paired by prompt",
     .caption = "Differences between configurations that differ in one thing, paired by prompt", .table = "pair",
     .array = "comparisons");

static const fr_column pooling[] = {
    {"figure", .page = "figure", .kind = FR_CELL_TEXT},
    {"pooled", .page = "over prompts", .kind = FR_CELL_TEXT},
};
VIEW(pooling, .caption = "How figures are pooled", .array = "statistics.figures");

/* Of configurations that differ in what the MTP module reads and recycles: those that the page chose. */
static const fr_column ways[] = {
    {"mtp_hidden", .page = "reads", .kind = FR_CELL_TEXT},
    {"mtp_recycle", .page = "recycles", .kind = FR_CELL_TEXT},
    {"speculative_decoding.acceptance_rate", NULL, "acceptance", .unit = FR_UNIT_PERCENT,
     .interval = "acceptance_rate_ci95|speculative_decoding.acceptance_rate_ci95"},
    {"speculative_decoding.mean_acceptance_length", .page = "mean length"},
};
VIEW(ways, .caption = "Each way: all positions together");

static const fr_column along_cycles[] = {
    {.path = NULL},
    {"acceptance_rate", .csv = "acceptance_rate", .n = "num_draft_tokens"},
    {"mean_acceptance_length", .csv = "mean_acceptance_length"},
};
VIEW(along_cycles, .table = "along_cycles", .array = "along_cycles", .one = true);

static const fr_column positions[] = {
    {"position", "position", "position", .unit = FR_UNIT_COUNT},
    {"drafted", "drafted", "drafted", .unit = FR_UNIT_COUNT},
    {"reached", .page = "reached", .unit = FR_UNIT_COUNT},
    {"accepted", "accepted", "accepted", .unit = FR_UNIT_COUNT},
    {"rate", "rate", "rate", "rate", FR_UNIT_PERCENT, "rate_ci95", "drafted", .bar = true},
    {"conditional_rate", "conditional", "conditional rate", "conditional_rate", FR_UNIT_PERCENT, "conditional_ci95",
     .n = "reached"},
    {"accepted", .csv = "accepted"},
};
VIEW(positions, .title = "position in the draft: accepted of drafted, and if those before were",
     .caption = "Acceptance by position in the draft", .table = "position", .array = "positions");

static const fr_column domains[] = {
    {"domain", "domain", "domain", .kind = FR_CELL_TEXT},
    {"prompts", "prompts", "prompts", .unit = FR_UNIT_COUNT},
    {"tokens", .page = "tokens", .unit = FR_UNIT_COUNT},
    {"drafted", "drafted", "drafted", .unit = FR_UNIT_COUNT},
    {"accepted", .page = "accepted", .unit = FR_UNIT_COUNT},
    {"acceptance_rate", "rate", "acceptance", "acceptance_rate", FR_UNIT_PERCENT, "ci95", "drafted", .bar = true},
    {"mean_acceptance_length", "mean length", "mean length", "mean_acceptance_length", .digits = 3},
};
VIEW(domains, .title = "domain: accepted of drafted", .caption = "Acceptance by domain; the headings sort", .table = "domain",
     .array = "domains", .sorts = true);

static const fr_column context[] = {
    {"", "context", .unit = FR_UNIT_COUNT, .kind = FR_CELL_RANGE},
    {"drafted", "drafted", .unit = FR_UNIT_COUNT},
    {"rate", "rate", NULL, "acceptance_rate", FR_UNIT_PERCENT, "ci95", "drafted", .bar = true},
};
VIEW(context, .title = "tokens of context: first drafts accepted", .table = "context", .array = "context");

static const fr_column calibration[] = {
    {.path = NULL},
    {"ece", .csv = "ece"},
};
VIEW(calibration, .table = "calibration", .array = "calibration", .one = true);

static const fr_column bins[] = {
    {"", "confidence", .unit = FR_UNIT_PERCENT, .kind = FR_CELL_RANGE},
    {"count", "drafts", .unit = FR_UNIT_COUNT},
    {"mean_confidence", "mean", .unit = FR_UNIT_PERCENT},
    {"rate", "accepted", NULL, "rate", FR_UNIT_PERCENT, "ci95", "count", .bar = true},
    {"mean_confidence", .csv = "mean_confidence", .n = "count"},
};
VIEW(bins, .table = "calibration", .array = "calibration.bins", .counted = "count");

static const fr_column rejected[] = {
    {"token", .page = "token", .unit = FR_UNIT_COUNT},
    {"text", .page = "text", .kind = FR_CELL_TOKEN},
    {"proposed", .page = "proposed", .unit = FR_UNIT_COUNT},
    {"rejected", .page = "rejected", .unit = FR_UNIT_COUNT},
    {"rate", .page = "rate", .csv = "rejection_rate", .unit = FR_UNIT_PERCENT, .n = "proposed"},
};
VIEW(rejected, .caption = "Drafted tokens that the main model did not agree with; the headings sort", .table = "rejected_token",
     .array = "rejected_tokens", .sorts = true);

static const fr_column overlap[] = {
    {.path = NULL},
    {"mean", .csv = "mean"},
    {"if_independent", .csv = "if_independent"},
    {"if_independent_by_popularity", .csv = "if_independent_by_popularity"},
};
VIEW(overlap, .table = "expert_overlap", .array = "expert_overlap", .one = true);

static const fr_column overlap_layers[] = {
    {.path = "layer"},
    {"overlap", .csv = "overlap"},
    {"if_independent", .csv = "if_independent"},
};
VIEW(overlap_layers, .table = "expert_overlap", .array = "expert_overlap.layers");
