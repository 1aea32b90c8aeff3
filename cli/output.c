#include "cli/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "cli/message.h"
#include "cli/notice.h"
#include "core/text_size.h"
#include "study/words.h"

/* ---- Documents --------------------------------------------------------------------------------------------- */

void fr_cli_json_begin(fr_json_builder *b) {
    fr_json_begin(b);
    b->keeps_bytes = true;
}

void fr_cli_json_print(fr_json_builder *b) {
    fr_cli_add_notices(b, b->root);
    char *text = fr_json_print(b);
    if (!text) exit(fr_cli_error(FR_EXIT_FAILED, "memory: not enough for the JSON document"));
    puts(text);
    cJSON_free(text);
    fr_json_discard(b);
}

void fr_cli_add_plan(fr_json_builder *b, cJSON *to, const char *key, const fr_memory_plan *plan, bool fits) {
    cJSON *object = fr_json_add_object(b, to, key);
    fr_json_add_text(b, object, "weights", fr_weights_word(plan->weights));
    fr_json_add_count(b, object, "weight_bytes", plan->weight_bytes);
    fr_json_add_count(b, object, "table_bytes", plan->table_bytes);
    fr_json_add_count(b, object, "draft_head_bytes", plan->draft_head_bytes);
    fr_json_add_count(b, object, "ctx", (uint64_t)plan->ctx);
    fr_json_add_count(b, object, "kv_bytes", plan->session.kv_bytes);
    fr_json_add_count(b, object, "mtp_kv_bytes", plan->session.mtp_kv_bytes);
    fr_json_add_count(b, object, "workspace_bytes", plan->session.workspace_bytes);
    fr_json_add_count(b, object, "private_bytes", plan->private_bytes);
    fr_json_add_count(b, object, "total_bytes", plan->total_bytes);
    if (plan->available_bytes)
        fr_json_add_count(b, object, "available_bytes", plan->available_bytes);
    else
        fr_json_add_null(b, object, "available_bytes");
    fr_json_add_bool(b, object, "fits", fits);
    fr_json_add_bool(b, object, "all_fits", plan->all_fits);
    if (plan->weights != FR_WEIGHTS_STREAM) return;
    object = fr_json_add_object(b, object, "streaming");
    fr_json_add_count(b, object, "resident_bytes", plan->resident_bytes);
    fr_json_add_count(b, object, "expert_bytes", plan->expert_bytes);
    fr_json_add_count(b, object, "experts", (uint64_t)plan->experts);
    fr_json_add_count(b, object, "cached_experts", (uint64_t)plan->cached_experts);
    fr_json_add_count(b, object, "cache_bytes", plan->cache_bytes);
    fr_json_add_count(b, object, "bytes_per_token", plan->token_bytes);
    fr_json_add_number(b, object, "disk_bytes_per_s", plan->disk_bytes_per_s);
    fr_json_add_bool(b, object, "disk_measured", plan->disk_measured);
}

/* Anonymous memory of the process in huge pages, as the system counts it; null where it does not. */
static void add_huge_pages(fr_json_builder *b, cJSON *to) {
    char line[256];
    uint64_t kib;
    bool found = false;
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    while (file && !found && fgets(line, sizeof line, file)) found = sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1;
    if (file) fclose(file);
    if (found)
        fr_json_add_count(b, to, "huge_page_bytes", kib << 10);
    else
        fr_json_add_null(b, to, "huge_page_bytes");
}

void fr_cli_add_memory(fr_json_builder *b, cJSON *to, const fr_model_info *info, const fr_session *session) {
    cJSON *object = fr_json_add_object(b, to, "memory");
    fr_memory memory = {0, 0, 0};
    struct rusage usage;
    if (session) fr_session_get_memory(session, &memory);
    fr_json_add_count(b, object, "weight_bytes", info->weight_bytes);
    fr_json_add_count(b, object, "private_bytes", info->private_bytes);
    fr_json_add_count(b, object, "kv_bytes", memory.kv_bytes);
    fr_json_add_count(b, object, "mtp_kv_bytes", memory.mtp_kv_bytes);
    fr_json_add_count(b, object, "workspace_bytes", memory.workspace_bytes);
    fr_cli_add_plan(b, object, "plan", &info->plan, true);
    add_huge_pages(b, object);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        fr_json_add_count(b, object, "peak_rss_bytes", (uint64_t)usage.ru_maxrss * 1024);
    else
        fr_json_add_null(b, object, "peak_rss_bytes");
}

void fr_cli_plan_text(const fr_memory_plan *plan, char *text, size_t size) {
    size_t used = 0;
    const struct {
        const char *what;
        uint64_t bytes;
    } parts[] = {
        {"draft head", plan->draft_head_bytes},
        {"KV", plan->session.kv_bytes + plan->session.mtp_kv_bytes},
        {"workspace", plan->session.workspace_bytes},
    };
    const char *how = plan->weights == FR_WEIGHTS_COPY ? "copied" : plan->weights == FR_WEIGHTS_STREAM ? "streamed" : "mapped";
    used += (size_t)snprintf(text, size, "weights %s %s", FR_TEXT_SIZE(plan->weight_bytes), how);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && used < size; i++) {
        if (parts[i].bytes == 0) continue;
        used += (size_t)snprintf(text + used, size - used, ", %s %s", parts[i].what, FR_TEXT_SIZE(parts[i].bytes));
        if (i == 1 && used < size)
            used += (size_t)snprintf(text + used, size - used, " for %s tokens", FR_TEXT_GROUPED((uint64_t)plan->ctx));
    }
    if (used < size) used += (size_t)snprintf(text + used, size - used, "; %s to allocate", FR_TEXT_SIZE(plan->private_bytes));
    if (used < size && plan->available_bytes)
        snprintf(text + used, size - used, ", %s available", FR_TEXT_SIZE(plan->available_bytes));
}

void fr_cli_stream_text(const fr_memory_plan *plan, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "%s of weights in memory, %s of %s experts (%s) cached",
                                   FR_TEXT_SIZE(plan->resident_bytes), FR_TEXT_GROUPED((uint64_t)plan->cached_experts),
                                   FR_TEXT_GROUPED((uint64_t)plan->experts), FR_TEXT_SIZE(plan->cache_bytes));
    if (plan->token_bytes == 0 || used >= size) return;
    snprintf(text + used, size - used, "; a token reads about %s, which takes %.3g s at %.2f GB/s (%s)",
             FR_TEXT_SIZE(plan->token_bytes), (double)plan->token_bytes / plan->disk_bytes_per_s, plan->disk_bytes_per_s / 1e9,
             plan->disk_measured ? "measured" : "assumed: no disk was measured");
}

void fr_cli_experts_text(const fr_stats *stats, char *text, size_t size) {
    double wanted = (double)(stats->expert_hits + stats->expert_misses), foreseen = (double)stats->experts_prefetched;
    size_t used =
        (size_t)snprintf(text, size, "%.1f %% were cached, %s read at %.2f GB/s, waited %.2f s for them",
                         wanted > 0 ? 100 * (double)stats->expert_hits / wanted : 0.0, FR_TEXT_SIZE(stats->disk_bytes),
                         stats->disk_busy_s > 0 ? (double)stats->disk_bytes / stats->disk_busy_s / 1e9 : 0.0, stats->stall_s);
    if (foreseen > 0 && used < size)
        snprintf(text + used, size - used, "; %.0f read ahead, %.0f %% of them used", foreseen,
                 100 * (double)stats->experts_prefetched_used / foreseen);
}
