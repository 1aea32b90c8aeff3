#include "study/speculation.h"

#include <math.h>

#include "study/words.h"

void fr_stats_merge(fr_stats *to, const fr_stats *from) {
    to->num_first_tokens += from->num_first_tokens;
    to->num_cycles += from->num_cycles;
    to->num_drafts += from->num_drafts;
    to->num_draft_tokens += from->num_draft_tokens;
    to->num_accepted_tokens += from->num_accepted_tokens;
    for (int j = 0; j < FR_MAX_DEPTH; j++) {
        to->drafted_at[j] += from->drafted_at[j];
        to->reached_at[j] += from->reached_at[j];
        to->accepted_at[j] += from->accepted_at[j];
    }
    for (int k = 0; k <= FR_MAX_DEPTH; k++) to->depth_histogram[k] += from->depth_histogram[k];
    to->unique_experts += from->unique_experts;
    to->chosen_experts += from->chosen_experts;
    to->verify_bytes += from->verify_bytes;
    to->draft_bytes += from->draft_bytes;
    to->prefill_s += from->prefill_s;
    to->draft_s += from->draft_s;
    to->verify_s += from->verify_s;
    to->sample_s += from->sample_s;
    to->rollback_s += from->rollback_s;
    to->catch_up_s += from->catch_up_s;
    to->catch_up_rows += from->catch_up_rows;
    to->prefill_tokens += from->prefill_tokens;
    to->expert_hits += from->expert_hits;
    to->expert_misses += from->expert_misses;
    to->experts_prefetched += from->experts_prefetched;
    to->experts_prefetched_used += from->experts_prefetched_used;
    to->disk_bytes += from->disk_bytes;
    to->stall_s += from->stall_s;
    to->disk_busy_s += from->disk_busy_s;
}

/* What the depth policy goes by. */
static void add_policy(fr_json_builder *b, cJSON *to, const fr_policy_info *p) {
    cJSON *object = fr_json_add_object(b, to, "policy");
    bool timed = p->pass_s[0] > 0;
    int depth = p->max_depth;
    fr_json_add_text(b, object, "mode",
                     fr_drafting_word(depth == 0    ? FR_DRAFTING_OFF
                                      : p->adaptive ? FR_DRAFTING_AUTO
                                                    : FR_DRAFTING_ON));
    fr_json_add_bool(b, object, "on", p->on);
    fr_json_add_reals(b, object, "acceptance", p->acceptance, (size_t)depth);
    fr_json_add_reals(b, object, "pass_s", p->pass_s, timed ? (size_t)depth + 1 : 0);
    fr_json_add_real(b, object, "draft_first_s", timed ? p->draft_first_s : NAN);
    fr_json_add_real(b, object, "draft_next_s", timed ? p->draft_next_s : NAN);
    fr_json_add_real(b, object, "tokens_per_cycle", timed ? p->tokens_per_cycle : NAN);
    fr_json_add_real(b, object, "cost_per_cycle", timed ? p->cost_per_cycle : NAN);
    fr_json_add_real(b, object, "break_even_predicted", depth > 0 ? p->break_even_predicted : NAN);
    fr_json_add_real(b, object, "break_even_measured", timed ? p->break_even_measured : NAN);
    fr_json_add_count(b, object, "switches", p->switches);
    fr_json_add_count(b, object, "probes", p->probes);
    fr_json_add_count(b, object, "cycles_off", p->cycles_off);
}

cJSON *fr_study_add_speculation(fr_json_builder *b, cJSON *to, const char *key, const fr_stats *stats,
                                const fr_policy_info *policy, int depth) {
    double drafts = (double)stats->num_drafts, accepted = (double)stats->num_accepted_tokens;
    double passes = (double)stats->num_cycles, per_position[FR_MAX_DEPTH], conditional[FR_MAX_DEPTH];
    cJSON *object = fr_json_add_object(b, to, key);
    while (depth < FR_MAX_DEPTH && stats->drafted_at[depth] > 0) depth++; /* never fewer than there were */
    for (int j = 0; j < depth; j++) {
        double reached = (double)stats->reached_at[j];
        per_position[j] = drafts > 0 ? (double)stats->accepted_at[j] / drafts : NAN;
        conditional[j] = reached > 0 ? (double)stats->accepted_at[j] / reached : NAN;
    }
    fr_json_add_count(b, object, "num_drafts", stats->num_drafts);
    fr_json_add_count(b, object, "num_cycles", stats->num_cycles);
    fr_json_add_count(b, object, "num_first_tokens", stats->num_first_tokens);
    fr_json_add_count(b, object, "num_draft_tokens", stats->num_draft_tokens);
    fr_json_add_count(b, object, "num_accepted_tokens", stats->num_accepted_tokens);
    fr_json_add_ratio(b, object, "acceptance_rate", accepted, (double)stats->num_draft_tokens);
    fr_json_add_ratio(b, object, "mean_acceptance_length", drafts + accepted, drafts);
    fr_json_add_reals(b, object, "per_position_acceptance_rate", per_position, (size_t)depth);
    fr_json_add_reals(b, object, "conditional_acceptance_rate", conditional, (size_t)depth);
    fr_json_add_counts(b, object, "drafted_per_position", stats->drafted_at, (size_t)depth);
    fr_json_add_counts(b, object, "accepted_per_position", stats->accepted_at, (size_t)depth);
    fr_json_add_counts(b, object, "depth_histogram", stats->depth_histogram, (size_t)depth + 1);
    cJSON *experts = fr_json_add_object(b, object, "unique_experts_per_pass");
    fr_json_add_ratio(b, experts, "mean", (double)stats->unique_experts, passes);
    fr_json_add_ratio(b, experts, "mean_chosen", (double)stats->chosen_experts, passes); /* as many, if no two rows shared one */
    fr_json_add_real(b, object, "draft_s", stats->draft_s);
    fr_json_add_real(b, object, "verify_s", stats->verify_s);
    fr_json_add_real(b, object, "sample_s", stats->sample_s);
    fr_json_add_real(b, object, "rollback_s", stats->rollback_s);
    fr_json_add_real(b, object, "catch_up_s", stats->catch_up_s);
    fr_json_add_count(b, object, "catch_up_rows", stats->catch_up_rows);
    fr_json_add_count(b, object, "verify_bytes", stats->verify_bytes);
    fr_json_add_count(b, object, "draft_bytes", stats->draft_bytes);
    if (policy) add_policy(b, object, policy);
    return object;
}

cJSON *fr_study_add_experts(fr_json_builder *b, cJSON *to, const fr_stats *stats, const char *reader) {
    if (!reader) return NULL;
    cJSON *object = fr_json_add_object(b, to, "experts");
    fr_json_add_text(b, object, "reader", reader);
    fr_json_add_count(b, object, "hits", stats->expert_hits);
    fr_json_add_count(b, object, "misses", stats->expert_misses);
    fr_json_add_ratio(b, object, "hit_rate", (double)stats->expert_hits, (double)(stats->expert_hits + stats->expert_misses));
    fr_json_add_count(b, object, "read_bytes", stats->disk_bytes);
    fr_json_add_ratio(b, object, "disk_bytes_per_s", (double)stats->disk_bytes, stats->disk_busy_s);
    fr_json_add_real(b, object, "stall_s", stats->stall_s);
    fr_json_add_count(b, object, "prefetched", stats->experts_prefetched);
    fr_json_add_count(b, object, "prefetched_used", stats->experts_prefetched_used);
    return object;
}
