#include <assert.h>
#include <string.h>

#include "study/accept/accept.h"

static int bucket_of(int context) {
    int bucket = 0;
    while (context >= 64 && bucket + 1 < FR_ACCEPT_CONTEXTS) {
        context /= 2;
        bucket++;
    }
    return bucket;
}

void fr_accept_count_cycle(fr_accept_run *run, const fr_cycle *c) {
    fr_accept_config *config = run->config;
    fr_accept_positions *at = &run->text->at;
    int drafted = fr_cycle_drafted(c);
    assert(c->accepted >= 0 && c->accepted <= drafted && drafted <= FR_MAX_DEPTH);
    run->text->cycles += drafted > 0;
    for (int j = 0; j < drafted; j++) {
        at->drafted[j]++;
        if (j > c->accepted) continue;
        bool accepted = j < c->accepted;
        at->reached[j]++;
        at->accepted[j] += accepted;
        fr_calibration_add(&run->text->calibration, c->confidence[j], accepted);
        config->proposed[c->drafts[j]]++;
        config->rejected[c->drafts[j]] += !accepted;
    }
    if (drafted == 0) return;
    run->text->context_drafted[bucket_of(c->length)]++;
    run->text->context_accepted[bucket_of(c->length)] += c->accepted > 0;
}

/* Members that two ascending lists share. */
static uint64_t shared(const int32_t *a, const int32_t *b, int count) {
    uint64_t both = 0;
    for (int i = 0, j = 0; i < count && j < count;) {
        both += a[i] == b[j];
        if (a[i] < b[j])
            i++;
        else if (a[i] > b[j])
            j++;
        else
            i++, j++;
    }
    return both;
}

void fr_accept_count_experts(fr_accept_run *run, const int32_t *experts, int pass_rows, int rows) {
    fr_accept_experts *e = &run->experts;
    if (run->config != run->configs || e->layers == 0) return;
    assert(rows <= pass_rows);
    size_t chosen = (size_t)e->chosen;
    for (int r = 0; r < rows; r++) {
        for (int layer = 0; layer < e->layers; layer++) {
            const int32_t *ids = experts + ((size_t)layer * (size_t)pass_rows + (size_t)r) * chosen;
            int32_t *last = e->last + (size_t)layer * chosen;
            if (e->has_last) e->shared[layer] += shared(ids, last, e->chosen);
            for (int k = 0; k < e->chosen; k++) e->chose[(size_t)layer * (size_t)e->count + (size_t)ids[k]]++;
            memcpy(last, ids, chosen * sizeof *last);
        }
        e->tokens++;
        e->pairs += e->has_last;
        e->has_last = true;
    }
}

void fr_accept_new_text(fr_accept_run *run) {
    run->experts.has_last = false;
}

fr_status fr_accept_report(fr_accept_run *run, size_t tokens, fr_error *error) {
    const fr_accept_options *o = &run->options;
    size_t done = run->done + tokens < run->total ? run->done + tokens : run->total;
    if (!o->progress || o->progress(o->user, run->config->name, done, run->total)) return FR_OK;
    return fr_fail(error, FR_INTERRUPTED, "accept: interrupted in %s", run->config->name);
}
