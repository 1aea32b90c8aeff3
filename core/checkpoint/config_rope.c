/* RoPE in its two spellings: rope_theta beside rope_scaling, or both in rope_parameters. */
#include <string.h>

#include "core/checkpoint/config_sections.h"

/* rope_type, or type as it was called before; rope_type counts when both are there. */
static fr_status read_type(const fr_keys *k, const char **out) {
    const char *old = "", *type = "";
    FR_TRY(fr_json_string_or(k->object, k->where, "type", "", &old, k->error));
    FR_TRY(fr_json_string_or(k->object, k->where, "rope_type", old, &type, k->error));
    if (*old && strcmp(old, type) != 0)
        fr_notices_add(k->notices, fr_keys_file(k->where), "type is \"%s\" and rope_type \"%s\": rope_type counts", old, type);
    if (!*type && fr_json_find(k->object, "factor")) return fr_keys_unsupported(k, "rope_type", "\"yarn\" beside a factor");
    *out = *type ? type : "default";
    return FR_OK;
}

static fr_status parse_yarn(const fr_keys *k, const fr_keys *top, fr_config *c) {
    FR_TRY(fr_keys_only_bool(k, "truncate", true));
    c->yarn.present = true;
    c->yarn.beta_fast = 32;
    c->yarn.beta_slow = 1;
    FR_TRY(fr_json_float(k->object, k->where, "factor", 1, 1e6, &c->yarn.factor, k->error));
    FR_TRY(fr_keys_say_float(k, "beta_fast", 1e-3, 1e6, &c->yarn.beta_fast));
    FR_TRY(fr_keys_say_float(k, "beta_slow", 1e-3, 1e6, &c->yarn.beta_slow));
    FR_TRY(fr_keys_may_float(k, "mscale", 0, 100, &c->yarn.mscale));
    FR_TRY(fr_keys_may_float(k, "mscale_all_dim", 0, 100, &c->yarn.mscale_all_dim));
    FR_TRY(fr_keys_may_float(k, "attention_factor", 1e-6, 1e6, &c->yarn.attention_factor));
    static const char key[] = "original_max_position_embeddings";
    const fr_keys *from = fr_json_find(k->object, key) ? k : top;
    c->yarn.original_max_position_embeddings = c->max_position_embeddings;
    return fr_keys_say_int(from, key, 1, FR_MAX_POSITIONS, &c->yarn.original_max_position_embeddings);
}

/* The object of either spelling. Its theta counts before that of the top level. */
static fr_status parse_object(const fr_keys *k, const fr_keys *top, fr_config *c) {
    const char *type = "";
    const cJSON *above = fr_json_find(top->object, "rope_theta");
    float theta = c->rope_theta, one = 1;
    FR_TRY(fr_keys_may_float(k, "rope_theta", 1, 1e12, &c->rope_theta));
    if (above && c->rope_theta != theta)
        fr_notices_add(k->notices, fr_keys_file(k->where), "rope_theta is %g here and %g at the top level: the one here counts",
                       (double)c->rope_theta, (double)theta);
    FR_TRY(fr_keys_may_float(k, "partial_rotary_factor", 0, 1, &one));
    if (one != 1) return fr_keys_unsupported(k, "partial_rotary_factor", "1");
    FR_TRY(read_type(k, &type));
    if (strcmp(type, "default") == 0) return FR_OK;
    if (strcmp(type, "yarn") == 0 || strcmp(type, "deepseek_yarn") == 0) return parse_yarn(k, top, c);
    return fr_keys_unsupported(k, fr_json_find(k->object, "rope_type") ? "rope_type" : "type", "\"yarn\" (or \"default\": none)");
}

/* rope_scaling counts as a whole. What rope_parameters says otherwise is noticed. */
static void compare_spellings(const fr_keys *new_keys, const fr_keys *top, const fr_config *c) {
    fr_config other = *c;
    fr_keys silent = *new_keys, above = *top;
    silent.notices = above.notices = NULL;
    silent.assumed = above.assumed = NULL;
    silent.error = above.error = NULL;
    memset(&other.yarn, 0, sizeof other.yarn);
    bool same = parse_object(&silent, &above, &other) == FR_OK && other.rope_theta == c->rope_theta &&
                memcmp(&other.yarn, &c->yarn, sizeof c->yarn) == 0;
    if (!same) fr_notices_add(top->notices, top->file, "rope_scaling and rope_parameters disagree: rope_scaling counts");
}

fr_status fr_config_rope(const fr_keys *k, fr_config *c) {
    fr_place old_place, new_place;
    fr_keys old_keys, new_keys;
    bool theta = fr_json_find(k->object, "rope_theta");
    FR_TRY(fr_keys_may_float(k, "rope_theta", 1, 1e12, &c->rope_theta));
    FR_TRY(fr_keys_inside(k, "rope_scaling", &old_place, &old_keys));
    FR_TRY(fr_keys_inside(k, "rope_parameters", &new_place, &new_keys));
    const fr_keys *inside = old_keys.object ? &old_keys : &new_keys;
    bool said = theta || fr_json_find(inside->object, "rope_theta");
    if (!said && fr_json_find(new_keys.object, "rope_theta")) {
        FR_TRY(fr_keys_may_float(&new_keys, "rope_theta", 1, 1e12, &c->rope_theta));
    } else if (!said) {
        fr_keys_assume(k, "rope_theta", "%g", (double)c->rope_theta);
    }
    if (inside->object) FR_TRY(parse_object(inside, k, c));
    if (old_keys.object && new_keys.object) compare_spellings(&new_keys, k, c);
    return FR_OK;
}
