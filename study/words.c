#include "study/words.h"

#include <stdio.h>
#include <string.h>

#include "core/kernels/isa.h"
#include "forerun_checkpoint.h"
#include "mtp/drafters/drafter.h"

static const char *const acts[] = {[FR_ACT_AUTO] = "auto", [FR_ACT_FP8] = "fp8", [FR_ACT_NONE] = "none"};
static const char *const draft_heads[] = {
    [FR_DRAFT_HEAD_AUTO] = "auto", [FR_DRAFT_HEAD_EXACT] = "exact", [FR_DRAFT_HEAD_FP8] = "fp8"};
static const char *const draftings[] = {[FR_DRAFTING_AUTO] = "auto", [FR_DRAFTING_OFF] = "off", [FR_DRAFTING_ON] = "on"};
static const char *const hidden_states[] = {[FR_HIDDEN_POST_NORM] = "post", [FR_HIDDEN_PRE_NORM] = "pre"};
static const char *const kvs[] = {[FR_KV_BF16] = "bf16", [FR_KV_F32] = "f32"};
static const char *const precisions[] = {[FR_PRECISION_AUTO] = "auto", [FR_PRECISION_FP8] = "fp8", [FR_PRECISION_BF16] = "bf16"};
static const char *const readers[] = {[FR_READER_BEST] = "auto", [FR_READER_URING] = "uring", [FR_READER_THREADS] = "threads"};
static const char *const recycles[] = {
    [FR_RECYCLE_POST_NORM] = "post", [FR_RECYCLE_PRE_NORM] = "pre", [FR_RECYCLE_PINNED] = "pinned"};
static const char *const rules[] = {[FR_VERIFY_COUPLED] = "coupled", [FR_VERIFY_REJECTION] = "rejection"};
static const char *const weight_words[] = {[FR_WEIGHTS_AUTO] = "auto",
                                           [FR_WEIGHTS_MMAP] = "mmap",
                                           [FR_WEIGHTS_COPY] = "copy",
                                           [FR_WEIGHTS_POPULATE] = "populate",
                                           [FR_WEIGHTS_STREAM] = "stream"};

static const char *const thinks[] = {[FR_THINK_AUTO] = "auto", [FR_THINK_OFF] = "off", [FR_THINK_ON] = "on"};

#define WORD(words, value) ((value) >= 0 && (size_t)(value) < sizeof(words) / sizeof *(words) ? (words)[value] : NULL)

const char *fr_act_word(int act) {
    return WORD(acts, act);
}

const char *fr_draft_head_word(int head) {
    return WORD(draft_heads, head);
}

const char *fr_drafter_word(int drafter) {
    const fr_drafter_type *type = fr_drafter_type_of(drafter);
    return type ? type->name : NULL;
}

const char *fr_drafting_word(int drafting) {
    return WORD(draftings, drafting);
}

const char *fr_hidden_state_word(int state) {
    return WORD(hidden_states, state);
}

const char *fr_isa_word(int isa) {
    return fr_isa_name((fr_isa)isa);
}

const char *fr_kv_word(int kv) {
    return WORD(kvs, kv);
}

const char *fr_precision_word(int precision) {
    return WORD(precisions, precision);
}

const char *fr_recycle_word(int recycle) {
    return WORD(recycles, recycle);
}

const char *fr_think_word(int think) {
    return WORD(thinks, think);
}

const char *fr_verify_word(int rule) {
    return WORD(rules, rule);
}

const char *fr_reader_word(int kind) {
    return WORD(readers, kind);
}

const char *fr_weights_word(int weights) {
    return WORD(weight_words, weights);
}

static const char learned[] = "learned"; /* the arm of auto with what was learned before */

void fr_ab_arm_name(const fr_ab_arm *arm, char *name, size_t size) {
    const char *word = arm->learned ? learned : fr_drafting_word(arm->drafting);
    if (arm->depth > 0 && arm->drafting != FR_DRAFTING_OFF)
        snprintf(name, size, "%s:%d", word, arm->depth);
    else
        snprintf(name, size, "%s", word);
}

bool fr_ab_arm_parse(const char *name, size_t length, fr_ab_arm *arm) {
    const char *word, *colon = memchr(name, ':', length);
    size_t size = colon ? (size_t)(colon - name) : length;
    for (int i = -1; (word = i < 0 ? learned : fr_drafting_word(i)); i++) {
        if (strlen(word) != size || strncmp(word, name, size) != 0) continue;
        *arm = i < 0 ? (fr_ab_arm){FR_DRAFTING_AUTO, 0, true} : (fr_ab_arm){(fr_drafting)i, 0, false};
        if (!colon) return true;
        if (length != size + 2 || colon[1] < '1' || colon[1] > '0' + FR_MAX_DEPTH) return false;
        arm->depth = colon[1] - '0';
        return arm->drafting != FR_DRAFTING_OFF;
    }
    return false;
}
