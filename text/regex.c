#include "text/regex.h"

#include <ctype.h>
#include <string.h>

#include "core/memory.h"

typedef struct translation {
    const char *in; /* what is left of the pattern */
    char *out;
    bool in_class;
    const char *unsupported; /* the first thing in it that is not supported; NULL: none */
} translation;

static void translate_until(translation *t, const char *end);

static void copy(translation *t, size_t n) {
    memcpy(t->out, t->in, n);
    t->out += n;
    t->in += n;
}

static void replace(translation *t, size_t n, const char *with) {
    t->in += n;
    t->out = stpcpy(t->out, with);
}

/* \p{...}: general categories (L, Lu, ...) are the same; a longer name is a script, which PCRE2 would widen to its
 * extensions. */
static void translate_property(translation *t) {
    const char *name = t->in + 3, *end = t->in[2] == '{' ? strchr(name, '}') : NULL;
    if (!end) {
        t->unsupported = "\\p without braces";
        return;
    }
    copy(t, 3);
    if (*name == '^') copy(t, 1), name++;
    if (end - name > 2) t->out = stpcpy(t->out, "sc:");
    copy(t, (size_t)(end - t->in) + 1);
}

static void translate_escape(translation *t) {
    char c = t->in[1];
    if (c == 's')
        replace(t, 2, "\\p{White_Space}"); /* PCRE2's own \s has U+180E too */
    else if (c == 'S')
        replace(t, 2, "\\P{White_Space}");
    else if (c == 'p' || c == 'P')
        translate_property(t);
    else if (c == 'x' && t->in[2] == '{' && strchr(t->in, '}'))
        copy(t, (size_t)(strchr(t->in, '}') - t->in) + 1);
    else if (c == '\0' || strchr("dDrntfae", c) || !isalnum((unsigned char)c))
        copy(t, c ? 2 : 1); /* (a backslash at the end is PCRE2's to refuse) */
    else
        t->unsupported = "an escape other than \\s \\S \\p{} \\P{} \\d \\D \\r \\n \\t \\f \\a \\e \\x{}";
}

static void translate_in_class(translation *t) {
    if (t->in[0] == '[')
        t->unsupported = "a class within a class";
    else if (t->in[0] == '&' && t->in[1] == '&')
        t->unsupported = "an intersection of classes (&&)";
    else {
        t->in_class = t->in[0] != ']';
        copy(t, 1);
    }
}

/* ---- Intersections of classes ---- */

/* The end of a class that begins at `in`: behind its ]. *crossing: its first && that is not in a class within it; NULL: none.
 * NULL when the class has no end. */
static const char *class_end(const char *in, const char **crossing) {
    int depth = 0;
    *crossing = NULL;
    for (; *in; in++) {
        if (*in == '\\' && in[1])
            in++;
        else if (*in == '[')
            depth++;
        else if (*in == ']' && --depth == 0)
            return in + 1;
        else if (*in == '&' && in[1] == '&' && depth == 1 && !*crossing)
            *crossing = in;
    }
    return NULL;
}

/* One side of an intersection, up to `end`: a class of its own, or members without brackets around them. */
static void translate_operand(translation *t, const char *end) {
    const char *crossing;
    bool bare = *t->in != '[';
    if (t->in == end || *t->in == '^' || (!bare && class_end(t->in, &crossing) != end)) {
        t->unsupported = "an intersection of something other than two classes";
        return;
    }
    if (bare) *t->out++ = '[';
    t->in_class = bare;
    translate_until(t, end);
    t->in_class = false;
    if (bare) *t->out++ = ']';
}

/* [A&&B] becomes (?:(?=[B])[A]): the character ahead is in B, and is taken if it is in A. */
static void translate_intersection(translation *t, const char *crossing, const char *end) {
    const char *first = t->in + 1;
    t->out = stpcpy(t->out, "(?:(?=");
    t->in = crossing + 2;
    translate_operand(t, end - 1);
    if (t->unsupported) return;
    *t->out++ = ')';
    t->in = first;
    translate_operand(t, crossing);
    if (t->unsupported) return;
    *t->out++ = ')';
    t->in = end;
}

static bool known_group(const char *after) {
    static const char *const groups[] = {":", "=", "!", ">", "<=", "<!", "i:", "i)"};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strncmp(after, groups[i], strlen(groups[i])) == 0) return true;
    return false;
}

static void translate_outside(translation *t) {
    const char *in = t->in, *crossing = NULL, *end = in[0] == '[' ? class_end(in, &crossing) : NULL;
    if (end && crossing) {
        translate_intersection(t, crossing, end);
    } else if (in[0] == '[') {
        copy(t, in[1] == '^' ? 2 : 1);
        if (*t->in == ']') t->unsupported = "a class that begins with ]";
        t->in_class = true;
    } else if (in[0] == '(' && (in[1] == '*' || (in[1] == '?' && !known_group(in + 2))))
        t->unsupported = "a group other than (), (?:), (?i:), (?=), (?!), (?<=), (?<!), (?>)";
    else if (in[0] == '{' && in[1] == ',')
        t->unsupported = "a quantifier without a lower bound";
    else if (in[0] == '}' && in[1] == '+')
        t->unsupported = "a quantifier {} followed by +";
    else
        copy(t, 1);
}

static void translate_until(translation *t, const char *end) {
    while (t->in < end && !t->unsupported) {
        if (*t->in == '\\')
            translate_escape(t);
        else if (t->in_class)
            translate_in_class(t);
        else
            translate_outside(t);
    }
}

static fr_status compile(const char *pattern, uint32_t options, pcre2_code **out, fr_error *error) {
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return fr_fail(error, FR_ERROR_MEMORY, "no memory to compile a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!*out) {
        PCRE2_UCHAR why[160] = "";
        pcre2_get_error_message(code, why, sizeof why);
        if (code == PCRE2_ERROR_HEAP_FAILED) return fr_fail(error, FR_ERROR_MEMORY, "no memory to compile a regular expression");
        return fr_fail(error, FR_ERROR_FORMAT, "the regular expression '%.200s' is wrong at byte %zu: %s", pattern, (size_t)at,
                       (const char *)why);
    }
    pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* without a JIT it is interpreted */
    return FR_OK;
}

fr_status fr_regex_compile(const char *pattern, pcre2_code **out, fr_error *error) {
    size_t room = 8 * strlen(pattern) + 16; /* \s, the worst, becomes 15 bytes */
    char *translated = fr_alloc(room);
    if (!translated) return fr_fail(error, FR_ERROR_MEMORY, "no memory for a regular expression");
    translation t = {pattern, translated, false, NULL};
    translate_until(&t, pattern + strlen(pattern));
    *t.out = '\0';
    fr_status status;
    if (t.unsupported)
        status = fr_fail(error, FR_ERROR_UNSUPPORTED, "the regular expression '%.200s' has %s at byte %zu", pattern,
                         t.unsupported, (size_t)(t.in - pattern));
    else
        status = compile(translated, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, out, error);
    fr_free(translated);
    return status;
}

fr_status fr_regex_literal(const char *text, pcre2_code **out, fr_error *error) {
    return compile(text, PCRE2_UTF | PCRE2_LITERAL, out, error);
}
