/* Configurations against each other, paired by prompt: what differs between the texts of one prompt is due to the configuration,
 * and how prompts differ is not in the way. */
#include <math.h>
#include <stdio.h>

#include "study/accept/document.h"
#include "study/words.h"

/* What a configuration may differ in. */
typedef enum factor { DEPTH, TEMPERATURE, VERIFY, HIDDEN, RECYCLE, FACTORS } factor;

static const char *const factor_words[FACTORS] = {"depth", "temperature", "verify", "mtp_hidden", "mtp_recycle"};

static bool is_alike(const fr_accept_config *a, const fr_accept_config *b, factor f) {
    switch (f) {
    case DEPTH:
        return a->depth == b->depth;
    case TEMPERATURE:
        return a->temperature == b->temperature;
    case VERIFY:
        return a->verify == b->verify;
    case HIDDEN:
        return a->hidden == b->hidden;
    default:
        return a->recycle == b->recycle;
    }
}

static bool differ_alone_in(const fr_accept_config *a, const fr_accept_config *b, factor f) {
    for (factor g = DEPTH; g < FACTORS; g++)
        if (is_alike(a, b, g) != (g != f)) return false;
    return true;
}

/* "recycle post", as names of configurations have it. */
static void name_level(const fr_accept_config *c, factor f, char *text, size_t size) {
    if (f == DEPTH) snprintf(text, size, "depth %d", c->depth);
    if (f == TEMPERATURE) snprintf(text, size, "temperature %g", (double)c->temperature);
    if (f == VERIFY) snprintf(text, size, "%s", fr_verify_word(c->verify));
    if (f == HIDDEN) snprintf(text, size, "hidden %s", fr_hidden_state_word(c->hidden));
    if (f == RECYCLE) snprintf(text, size, "recycle %s", fr_recycle_word(c->recycle));
}

static fr_estimated add_difference(fr_accept_writer *w, cJSON *to, const char *figure, const fr_accept_config *a,
                                   const fr_accept_config *b, fr_accept_kind kind, int at) {
    char key[64];
    fr_estimated of = fr_accept_difference(w->run, a, b, (fr_accept_figure){kind, at}, &w->units);
    w->lacking |= w->units.count > 0 && w->units.count < FR_LEAST_UNITS;
    snprintf(key, sizeof key, "%s_difference", figure);
    fr_json_add_real(&w->d, to, key, of.value);
    snprintf(key, sizeof key, "%s_ci95", figure);
    fr_json_add_interval(&w->d, to, key, of.interval.low, of.interval.high);
    return of;
}

static const char *verdict_of(fr_estimated length, size_t prompts) {
    if (prompts < FR_LEAST_UNITS) return "undecided";
    if (length.value == 0.0 && isnan(length.interval.low)) return "the same in every prompt";
    return length.interval.low > 0.0 ? "longer" : length.interval.high < 0.0 ? "shorter" : "no difference shown";
}

static void add_comparison(fr_accept_writer *w, cJSON *array, const fr_accept_config *a, const fr_accept_config *b, factor f) {
    fr_json_builder *d = &w->d;
    cJSON *item = fr_json_add_object(d, array, NULL);
    int depth = a->depth < b->depth ? a->depth : b->depth;
    char against[48] = "";
    name_level(a, f, against, sizeof against);
    fr_json_add_text(d, item, "a", a->name);
    fr_json_add_text(d, item, "b", b->name);
    fr_json_add_text(d, item, "differs", factor_words[f]);
    fr_json_add_text(d, item, "against", against);
    fr_estimated length = add_difference(w, item, "mean_acceptance_length", a, b, FR_ACCEPT_LENGTH, 0);
    size_t prompts = w->units.count;
    fr_json_add_count(d, item, "prompts", prompts);
    /* Deeper drafts are accepted less often: rates of all positions compare at one depth only. */
    if (f != DEPTH) add_difference(w, item, "acceptance_rate", a, b, FR_ACCEPT_RATE, 0);
    cJSON *positions = fr_json_add_array(d, item, "positions");
    for (int j = 0; j < depth; j++) {
        cJSON *position = fr_json_add_object(d, positions, NULL);
        fr_json_add_count(d, position, "position", (uint64_t)j + 1);
        add_difference(w, position, "rate", a, b, FR_ACCEPT_POSITION, j);
        add_difference(w, position, "conditional", a, b, FR_ACCEPT_CONDITIONAL, j);
    }
    fr_json_add_text(d, item, "verdict", verdict_of(length, prompts));
}

/* Each configuration against the first one that is like it but for one thing. */
void fr_accept_add_comparisons(fr_accept_writer *w) {
    const fr_accept_config *configs = w->run->configs;
    cJSON *array = fr_json_add_array(&w->d, w->d.root, "comparisons");
    for (size_t b = 1; b < w->run->num_configs; b++)
        for (factor f = DEPTH; f < FACTORS; f++) {
            size_t a = 0;
            while (a < b && !differ_alone_in(&configs[a], &configs[b], f)) a++;
            if (a < b) add_comparison(w, array, &configs[a], &configs[b], f);
        }
}
