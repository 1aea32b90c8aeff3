#include "text/pretokenize.h"

#include <string.h>

#include "core/utf8.h"

#define JIT_STACK_MIN (32 << 10)
#define JIT_STACK_MAX (1 << 20)
#define STEPS 10000
#define STEPS_A_BYTE 100

/* What ByteLevel splits by when use_regex is true. */
static const char *const byte_level_pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ---- Parsing ---- */

typedef struct parser {
    fr_pretokenizer *pretokenizer;
    bool byte_level; /* ByteLevel was read: nothing may follow it */
} parser;

static fr_status add_step(parser *p, const char *regex, const char *literal, fr_split_behavior behavior, bool invert,
                          fr_error *error) {
    if (p->pretokenizer->count == FR_MAX_SPLITS)
        return fr_fail(error, FR_ERROR_UNSUPPORTED, "more than %d splits", FR_MAX_SPLITS);
    fr_split_step *step = &p->pretokenizer->steps[p->pretokenizer->count];
    FR_TRY(regex ? fr_regex_compile(regex, &step->code, error) : fr_regex_literal(literal, &step->code, error));
    step->behavior = behavior;
    step->invert = invert;
    p->pretokenizer->count++;
    return FR_OK;
}

static fr_status parse_behavior(const char *name, fr_split_behavior *out, fr_error *error) {
    static const char *const names[] = {[FR_SPLIT_ISOLATED] = "Isolated",
                                        [FR_SPLIT_CONTIGUOUS] = "Contiguous",
                                        [FR_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                        [FR_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (fr_split_behavior)i;
            return FR_OK;
        }
    return fr_fail_at(error, FR_ERROR_UNSUPPORTED, "Split", "behavior \"%.40s\"", name);
}

static fr_status parse_split(parser *p, const cJSON *json, fr_error *error) {
    const cJSON *pattern;
    const char *behavior_name, *regex, *literal;
    fr_split_behavior behavior = FR_SPLIT_ISOLATED;
    bool invert;
    FR_TRY(fr_json_object(json, "Split", "pattern", &pattern, error));
    FR_TRY(fr_json_string_or(pattern, "Split: pattern", "Regex", NULL, &regex, error));
    FR_TRY(fr_json_string_or(pattern, "Split: pattern", "String", NULL, &literal, error));
    if (!regex == !literal) return fr_fail_at(error, FR_ERROR_FORMAT, "Split: pattern", "expected one of Regex and String");
    FR_TRY(fr_json_string(json, "Split", "behavior", &behavior_name, error));
    FR_TRY(parse_behavior(behavior_name, &behavior, error));
    FR_TRY(fr_json_bool_or(json, "Split", "invert", false, &invert, error));
    if (literal && !*literal) return FR_OK; /* the empty string never matches, so it cuts nothing */
    return add_step(p, regex, literal, behavior, invert, error);
}

static fr_status parse_byte_level(parser *p, const cJSON *json, fr_error *error) {
    bool prefix, use_regex;
    FR_TRY(fr_json_bool_or(json, "ByteLevel", "add_prefix_space", false, &prefix, error));
    if (prefix) return fr_fail_at(error, FR_ERROR_UNSUPPORTED, "ByteLevel", "add_prefix_space true");
    FR_TRY(fr_json_bool_or(json, "ByteLevel", "use_regex", true, &use_regex, error));
    if (use_regex) FR_TRY(add_step(p, byte_level_pattern, NULL, FR_SPLIT_ISOLATED, false, error));
    p->byte_level = true;
    return FR_OK;
}

static fr_status parse_step(parser *p, const cJSON *json, fr_error *error) {
    const char *type;
    if (!cJSON_IsObject(json)) return fr_fail(error, FR_ERROR_FORMAT, "a pre-tokenizer is not an object");
    FR_TRY(fr_json_string(json, "a pre-tokenizer", "type", &type, error));
    if (strcmp(type, "Sequence") == 0) { /* recursion is limited by FR_JSON_MAX_DEPTH */
        const cJSON *list, *item;
        FR_TRY(fr_json_array(json, "Sequence", "pretokenizers", &list, error));
        cJSON_ArrayForEach(item, list) FR_TRY(parse_step(p, item, error));
        return FR_OK;
    }
    if (p->byte_level) return fr_fail(error, FR_ERROR_UNSUPPORTED, "\"%.40s\" after ByteLevel", type);
    if (strcmp(type, "Split") == 0) return parse_split(p, json, error);
    if (strcmp(type, "ByteLevel") == 0) return parse_byte_level(p, json, error);
    if (strcmp(type, "Digits") == 0) {
        bool individual;
        FR_TRY(fr_json_bool_or(json, "Digits", "individual_digits", false, &individual, error));
        return add_step(p, individual ? "\\p{N}" : "\\p{N}+", NULL, FR_SPLIT_ISOLATED, false, error);
    }
    return fr_fail(error, FR_ERROR_UNSUPPORTED, "type \"%.40s\" (Split, Digits and ByteLevel are supported)", type);
}

fr_status fr_pretokenizer_parse(fr_pretokenizer *pretokenizer, const cJSON *json, fr_error *error) {
    parser p = {pretokenizer, false};
    fr_status status = FR_OK;
    if (json) status = parse_step(&p, json, error);
    if (status == FR_OK && !p.byte_level) status = fr_fail(error, FR_ERROR_UNSUPPORTED, "no ByteLevel at the end");
    return status == FR_OK ? FR_OK : fr_context(error, status, "pre_tokenizer");
}

fr_status fr_pretokenizer_split(fr_pretokenizer *pretokenizer, const char *regex, fr_error *error) {
    return add_step(&(parser){pretokenizer, true}, regex, NULL, FR_SPLIT_ISOLATED, false, error);
}

void fr_pretokenizer_release(fr_pretokenizer *pretokenizer) {
    for (int i = 0; i < pretokenizer->count; i++) pcre2_code_free(pretokenizer->steps[i].code);
    pretokenizer->count = 0;
}

/* ---- Scratch ---- */

fr_status fr_pretokenize_scratch_create(fr_pretokenize_scratch *scratch, fr_error *error) {
    scratch->data = pcre2_match_data_create(1, NULL);
    scratch->context = pcre2_match_context_create(NULL);
    if (!scratch->data || !scratch->context) {
        fr_pretokenize_scratch_release(scratch);
        return fr_fail(error, FR_ERROR_MEMORY, "no memory to match regular expressions");
    }
    scratch->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
    if (scratch->stack) pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
    return FR_OK;
}

void fr_pretokenize_scratch_release(fr_pretokenize_scratch *scratch) {
    pcre2_match_data_free(scratch->data);
    pcre2_match_context_free(scratch->context);
    pcre2_jit_stack_free(scratch->stack);
    *scratch = (fr_pretokenize_scratch){0};
}

/* ---- Cutting ---- */

typedef struct cutter {
    const fr_pretokenizer *pretokenizer;
    const fr_pretokenize_scratch *scratch;
    fr_piece_fn fn;
    void *user;
    fr_error *error;
} cutter;

static fr_status cut(const cutter *c, int step, const uint8_t *piece, size_t length);

/* A piece of a step that is not passed on yet, since the next part may still join it. */
typedef struct pending {
    size_t begin, end;
    bool some, is_match; /* is_match: of the part that was added last */
} pending;

static bool joins(fr_split_behavior behavior, const pending *before, bool is_match) {
    switch (behavior) {
    case FR_SPLIT_ISOLATED:
        return false;
    case FR_SPLIT_CONTIGUOUS:
        return before->is_match == is_match;
    case FR_SPLIT_MERGED_WITH_PREVIOUS:
        return is_match && !before->is_match;
    case FR_SPLIT_MERGED_WITH_NEXT:
        return !is_match && before->is_match;
    }
    return false;
}

/* Adds the part [begin, end) that a step has found in a piece; passes on the pending piece if the part does not join it. */
static fr_status part(const cutter *c, int step, const uint8_t *piece, pending *p, size_t begin, size_t end, bool matched) {
    const fr_split_step *s = &c->pretokenizer->steps[step];
    bool is_match = matched != s->invert;
    if (p->some && joins(s->behavior, p, is_match)) {
        p->end = end;
    } else {
        if (p->some && p->end > p->begin) FR_TRY(cut(c, step + 1, piece + p->begin, p->end - p->begin));
        p->begin = begin, p->end = end, p->some = true;
    }
    p->is_match = is_match;
    return FR_OK;
}

/* How far a match may go back and try again: no pattern that is meant for texts does so more than a few times a byte, and one
 * that doubles its work with each byte is an error before it takes long. */
static uint32_t most_steps(size_t length) {
    return length < UINT32_MAX / STEPS_A_BYTE - STEPS ? (uint32_t)(STEPS + STEPS_A_BYTE * length) : UINT32_MAX;
}

/* Finds the first match at or after `from`; *found false when there is none. */
static fr_status match(const cutter *c, int step, const uint8_t *piece, size_t length, size_t from, bool *found, size_t *begin,
                       size_t *end) {
    const fr_pretokenize_scratch *s = c->scratch;
    const pcre2_code *code = c->pretokenizer->steps[step].code;
    pcre2_set_match_limit(s->context, most_steps(length));
    int rc = pcre2_match(code, piece, length, from, PCRE2_NO_UTF_CHECK, s->data, s->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, piece, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->data, s->context);
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH) return FR_OK;
    if (rc < 0) {
        PCRE2_UCHAR why[160] = "";
        pcre2_get_error_message(rc, why, sizeof why);
        return fr_fail(c->error, FR_ERROR_UNSUPPORTED, "pre_tokenizer: split %d failed on a piece of %zu bytes: %s", step, length,
                       (const char *)why);
    }
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->data);
    *begin = range[0], *end = range[1];
    return FR_OK;
}

/* Cuts a piece of whole UTF-8 characters by the steps from `step` on. */
static fr_status cut(const cutter *c, int step, const uint8_t *piece, size_t length) {
    if (step == c->pretokenizer->count) return c->fn(c->user, piece, length, c->error);
    pending p = {0};
    size_t done = 0, from = 0;
    while (from <= length) {
        size_t begin, end;
        bool found;
        FR_TRY(match(c, step, piece, length, from, &found, &begin, &end));
        if (!found) break;
        if (begin > done) FR_TRY(part(c, step, piece, &p, done, begin, false));
        FR_TRY(part(c, step, piece, &p, begin, end, true));
        done = end;
        /* after an empty match, continue one character later */
        from = end > begin || end == length ? end : end + (size_t)fr_utf8_next(piece + end, length - end);
        if (end == length) break;
    }
    if (done < length) FR_TRY(part(c, step, piece, &p, done, length, false));
    return p.some && p.end > p.begin ? cut(c, step + 1, piece + p.begin, p.end - p.begin) : FR_OK;
}

fr_status fr_pretokenize(const fr_pretokenizer *pretokenizer, const fr_pretokenize_scratch *scratch, const uint8_t *text,
                         size_t length, fr_piece_fn fn, void *user, fr_error *error) {
    cutter c = {pretokenizer, scratch, fn, user, error};
    for (size_t i = 0; i < length;) {
        size_t begin = i;
        for (int n; i < length && (n = fr_utf8_next(text + i, length - i)) > 0;) i += (size_t)n;
        if (i > begin) FR_TRY(cut(&c, 0, text + begin, i - begin));
        for (; i < length && fr_utf8_next(text + i, length - i) <= 0; i++) FR_TRY(fn(user, text + i, 1, error));
    }
    return FR_OK;
}
