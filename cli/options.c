#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/message.h"

static void *field(fr_cli_options *options, const fr_cli_option *option) {
    return (char *)options + option->offset;
}

/* ---- Words ------------------------------------------------------------------------------------------------- */

size_t fr_cli_distance(const char *a, const char *b) {
    enum { LONGEST = 40 };
    size_t row[LONGEST + 1], length_a = strlen(a), length_b = strlen(b);
    if (length_a > LONGEST || length_b > LONGEST) return LONGEST + 1;
    for (size_t j = 0; j <= length_b; j++) row[j] = j;
    for (size_t i = 1; i <= length_a; i++) {
        size_t diagonal = row[0]; /* distance of the words without their letters i and j */
        row[0] = i;
        for (size_t j = 1; j <= length_b; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[length_b];
}

bool fr_cli_is_near(const char *word, size_t distance) {
    return distance <= 1 + strlen(word) / 4;
}

/* The word of an FR_OPT_CHOICE option's value; NULL after the last. */
static const char *choice(const fr_cli_option *option, int value) {
    const char *word = option->word(value);
    return word || !option->also || (value > 0 && !option->word(value - 1)) ? word : option->also;
}

/* "off|on|auto". */
static void list_choices(const fr_cli_option *option, char *list, size_t size) {
    size_t used = 0;
    const char *word;
    for (int i = 0; (word = choice(option, i)) && used < size; i++)
        used += (size_t)snprintf(list + used, size - used, "%s%s", i ? "|" : "", word);
}

/* ---- Values ------------------------------------------------------------------------------------------------ */

/* A whole number of decimal digits with an optional sign, nothing around it; false with errno ERANGE when too large. */
static bool parse_integer(const char *text, long long *out) {
    char *end;
    errno = 0;
    if (!isdigit((unsigned char)text[*text == '-' || *text == '+'])) return false;
    *out = strtoll(text, &end, 10);
    return *end == 0 && errno == 0;
}

/* "1000", "20G". */
static bool parse_size(const char *text, uint64_t *out) {
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    *out = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
    if (!isdigit((unsigned char)*text) || errno) return false;
    const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (*out > UINT64_MAX >> shift) return false;
    *out <<= shift;
    return *(end + (unit != NULL)) == '\0';
}

/* Parses the id at *c and moves *c behind it. Returns NULL, or what is wrong: `form` where there is no id. */
static const char *parse_id(const char **c, const char *form, int32_t *id) {
    char *end;
    if (!isdigit((unsigned char)**c)) return form;
    errno = 0;
    long long value = strtoll(*c, &end, 10);
    if (errno || value > INT32_MAX) return "an id is too large";
    *id = (int32_t)value;
    *c = end;
    return NULL;
}

/* Parses comma-separated ids; *out is allocated. Returns NULL, or what is wrong (a static text). */
static const char *parse_ids(const char *text, fr_cli_ids *out) {
    static const char form[] = "ids are whole numbers from 0 up, separated by commas", blanks[] = " \t\n";
    size_t most = 1, count = 0;
    for (const char *c = text; *c; c++) most += *c == ',';
    int32_t *ids = fr_cli_alloc(most, sizeof *ids);
    const char *c = text + strspn(text, blanks), *problem = *c ? NULL : "there is no id";
    while (!problem && !(problem = parse_id(&c, form, &ids[count]))) {
        count++;
        c += strspn(c, blanks);
        if (*c == '\0') break;
        if (*c != ',') problem = form;
        c += 1 + strspn(c + 1, blanks);
    }
    if (problem) {
        free(ids);
        return problem;
    }
    free(out->ids);
    *out = (fr_cli_ids){ids, count};
    return NULL;
}

static void add_text(fr_cli_texts *list, const char *text) {
    list->texts = fr_cli_grow(list->texts, list->count + 1, sizeof *list->texts);
    list->texts[list->count++] = text;
}

/* Adds "id=number,id=number" to the list. Returns NULL, or what is wrong (a static text). */
static const char *add_biases(fr_cli_biases *list, const char *text) {
    static const char form[] = "it takes ID=BIAS, separated by commas";
    for (const char *c = text;; c++) {
        char *end;
        int32_t id;
        const char *problem = parse_id(&c, form, &id);
        if (problem) return problem;
        if (*c != '=' || c[1] == 0 || isspace((unsigned char)c[1])) return form;
        c++;
        float bias = (float)strtod(c, &end);
        if (end == c || !(bias <= FR_MOST_LOGIT_BIAS)) return "a bias is a number up to 1e30, or -inf";
        list->biases = fr_cli_grow(list->biases, list->count + 1, sizeof *list->biases);
        list->biases[list->count++] = (fr_logit_bias){id, bias};
        c = end;
        if (*c == 0) return NULL;
        if (*c != ',') return form;
    }
}

static int bad_number(const fr_cli_option *option, const char *text, const char *what) {
    int code = fr_cli_error(FR_EXIT_USAGE, "--%s: '%s' is %s", option->name, text, what);
    const char *kind = option->type == FR_OPT_INT ? "a whole number" : "a number";
    if (option->high >= INT_MAX)
        fr_cli_hint("--%s takes %s from %g up", option->name, kind, option->low);
    else
        fr_cli_hint("--%s takes %s from %g to %g", option->name, kind, option->low, option->high);
    return code;
}

static int set_choice(fr_cli_options *options, const fr_cli_option *option, const char *text) {
    const char *word, *nearest = "";
    char choices[80] = "";
    size_t best = SIZE_MAX;
    for (int i = 0; (word = choice(option, i)); i++) {
        size_t distance = fr_cli_distance(text, word);
        if (distance == 0) {
            *(int *)field(options, option) = i;
            return 0;
        }
        if (distance < best) {
            best = distance;
            nearest = word;
        }
    }
    list_choices(option, choices, sizeof choices);
    int code = fr_cli_error(FR_EXIT_USAGE, "--%s: '%s' is not one of %s", option->name, text, choices);
    if (fr_cli_is_near(text, best)) fr_cli_hint("did you mean '%s'?", nearest);
    return code;
}

/* Returns 0, or prints the problem of a list with an example and returns FR_EXIT_USAGE. */
static int list_result(const fr_cli_option *option, const char *text, const char *problem, const char *example) {
    if (!problem) return 0;
    fr_cli_error(FR_EXIT_USAGE, "--%s: '%.60s%s': %s", option->name, text, strlen(text) > 60 ? "..." : "", problem);
    fr_cli_hint("write them as in --%s %s", option->name, example);
    return FR_EXIT_USAGE;
}

/* Parses one value into its field. Returns 0 or FR_EXIT_USAGE, printed. */
static int set_value(fr_cli_options *options, const fr_cli_option *option, const char *text) {
    long long integer;
    double real;
    char *end;
    switch (option->type) {
    case FR_OPT_FLAG:
        *(bool *)field(options, option) = true;
        return 0;
    case FR_OPT_INT:
        if (!parse_integer(text, &integer) && errno != ERANGE) return bad_number(option, text, "not a whole number");
        if (errno == ERANGE || (double)integer < option->low || (double)integer > option->high)
            return bad_number(option, text, "out of range");
        *(int *)field(options, option) = (int)integer;
        return 0;
    case FR_OPT_U64:
        errno = 0;
        *(uint64_t *)field(options, option) = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
        if (!isdigit((unsigned char)*text) || *end || errno)
            return fr_cli_error(FR_EXIT_USAGE, "--%s: '%s' is not a whole number from 0 to 2^64-1", option->name, text);
        return 0;
    case FR_OPT_SIZE:
        if (parse_size(text, field(options, option))) return 0;
        fr_cli_error(FR_EXIT_USAGE, "--%s: '%s' is not a size", option->name, text);
        fr_cli_hint("--%s takes bytes, or a number with K, M, G or T behind it: 20G", option->name);
        return FR_EXIT_USAGE;
    case FR_OPT_REAL:
        real = strtod(text, &end);
        if (end == text || *end || isspace((unsigned char)*text)) return bad_number(option, text, "not a number");
        if (!(real >= option->low && real <= option->high)) return bad_number(option, text, "out of range");
        *(double *)field(options, option) = real;
        return 0;
    case FR_OPT_FILE:
        if (!*text) return fr_cli_error(FR_EXIT_USAGE, "--%s: the name is empty", option->name);
        *(const char **)field(options, option) = text;
        return 0;
    case FR_OPT_TEXT:
        *(const char **)field(options, option) = text;
        return 0;
    case FR_OPT_CHOICE:
        return set_choice(options, option, text);
    case FR_OPT_TEXTS:
        add_text(field(options, option), text);
        return 0;
    case FR_OPT_BIASES:
        return list_result(option, text, add_biases(field(options, option), text), "5=2.5,17=-inf");
    case FR_OPT_IDS:
        return list_result(option, text, parse_ids(text, field(options, option)), "5,17,3");
    }
    return FR_EXIT_USAGE;
}

bool fr_cli_given(const fr_cli_options *options, const char *name) {
    for (size_t i = 0; i < fr_cli_option_count; i++)
        if (options->given[i] && strcmp(fr_cli_option_table[i].name, name) == 0) return true;
    return false;
}

/* ---- Arguments --------------------------------------------------------------------------------------------- */

static const fr_cli_option *find_long(unsigned command, const char *name, size_t length) {
    for (size_t i = 0; i < fr_cli_option_count; i++) {
        const fr_cli_option *option = &fr_cli_option_table[i];
        if ((option->commands & command) && strlen(option->name) == length && strncmp(option->name, name, length) == 0)
            return option;
    }
    return NULL;
}

static const fr_cli_option *find_short(unsigned command, char letter) {
    for (size_t i = 0; i < fr_cli_option_count; i++)
        if ((fr_cli_option_table[i].commands & command) && fr_cli_option_table[i].letter == letter)
            return &fr_cli_option_table[i];
    return NULL;
}

static int unknown_option(unsigned command, const char *command_name, const char *argument) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(argument, "="), argument);
    const char *nearest = NULL;
    size_t best = SIZE_MAX;
    bool elsewhere = false;
    for (size_t i = 0; i < fr_cli_option_count; i++) {
        const fr_cli_option *option = &fr_cli_option_table[i];
        const char *word = name + strspn(name, "-");
        size_t distance = fr_cli_distance(word, option->name);
        elsewhere |= distance == 0;
        /* a beginning, as in --temp, is nearer than a typing error; of several with one beginning it is the first */
        if (strlen(word) > 2 && strncmp(word, option->name, strlen(word)) == 0 && distance > 1) distance = 1;
        if (!(option->commands & command) || distance >= best) continue;
        best = distance;
        nearest = option->name;
    }
    if (elsewhere)
        fr_cli_error(FR_EXIT_USAGE, "%s: forerun %s does not take this option", name, command_name);
    else
        fr_cli_error(FR_EXIT_USAGE, "%s: there is no such option", name);
    if (nearest && !elsewhere && fr_cli_is_near(nearest, best))
        fr_cli_hint("did you mean --%s?", nearest);
    else
        fr_cli_hint("forerun %s --help lists the options", command_name);
    return FR_EXIT_USAGE;
}

/* A long option behind one dash, as in -temperature 1, is read as a short one whose value makes no sense. */
static int one_dash(unsigned command, const char *argument, int code) {
    const char *name = argument + 1;
    if (code && name[0] && argument[0] == '-' && name[0] != '-' && name[1] && find_long(command, name, strcspn(name, "=")))
        fr_cli_hint("did you mean -%s, with two dashes?", argument);
    return code;
}

/* Whether an argument is itself an option of the command: then it is no file name or number, but a value was forgotten. */
static bool looks_like_option(unsigned command, const char *argument) {
    if (strncmp(argument, "--", 2) != 0) return false;
    return find_long(command, argument + 2, strcspn(argument + 2, "=")) != NULL;
}

/* Handles arguments[*i] (and the value after it). */
static int parse_one(fr_cli_options *options, unsigned command, const char *command_name, int count, char **arguments, int *i) {
    const char *argument = arguments[*i], *value = NULL;
    const fr_cli_option *option;
    if (argument[0] != '-' || argument[1] == 0) {
        fr_cli_error(FR_EXIT_USAGE, "'%s': an argument without an option before it", argument);
        fr_cli_hint("a prompt is given as -p TEXT, a model as -m DIR");
        return FR_EXIT_USAGE;
    }
    if (argument[1] == '-') {
        const char *equals = strchr(argument, '=');
        option = find_long(command, argument + 2, strcspn(argument + 2, "="));
        if (!option) return unknown_option(command, command_name, argument);
        if (equals) value = equals + 1;
        if (equals && option->type == FR_OPT_FLAG) return fr_cli_error(FR_EXIT_USAGE, "--%s: takes no value", option->name);
    } else {
        option = find_short(command, argument[1]);
        if (!option || (option->type == FR_OPT_FLAG && argument[2])) return unknown_option(command, command_name, argument);
        if (argument[2]) value = argument + 2 + (argument[2] == '=');
    }
    if (!value && option->type != FR_OPT_FLAG) {
        bool text = option->type == FR_OPT_TEXT;
        if (*i + 1 >= count || (!text && looks_like_option(command, arguments[*i + 1])))
            return fr_cli_error(FR_EXIT_USAGE, "--%s: its value %s is missing", option->name, option->value);
        value = arguments[++*i];
    }
    options->given[option - fr_cli_option_table] = true;
    return one_dash(command, argument, set_value(options, option, value));
}

int fr_cli_options_parse(fr_cli_options *options, unsigned command, const char *command_name, int count, char **arguments) {
    memset(options, 0, sizeof *options);
    for (size_t i = 0; i < fr_cli_option_count; i++) {
        const fr_cli_option *option = &fr_cli_option_table[i];
        char *end;
        if (!option->fallback || !(option->commands & command)) continue; /* another command's default is none here */
        if (option->type == FR_OPT_CHOICE || (strtod(option->fallback, &end), *end == 0))
            set_value(options, option, option->fallback);
    }
    for (int i = 0; i < count && !options->help; i++) {
        int code = parse_one(options, command, command_name, count, arguments, &i);
        if (code) return code;
    }
    fr_cli_set_quiet(options->quiet);
    return 0;
}

void fr_cli_options_free(fr_cli_options *options) {
    free(options->prompt_tokens.ids);
    free(options->decode.ids);
    free(options->rows.ids);
    free(options->depths.ids);
    free(options->set.texts);
    free(options->stop.texts);
    free(options->logit_bias.biases);
    options->set = options->stop = (fr_cli_texts){NULL, 0};
    options->logit_bias = (fr_cli_biases){NULL, 0};
    options->prompt_tokens = options->decode = options->rows = options->depths = (fr_cli_ids){NULL, 0};
}

/* ---- Help -------------------------------------------------------------------------------------------------- */

void fr_cli_options_help(unsigned command) {
    enum { COLUMN = 32 };
    const char *group = "";
    for (size_t i = 0; i < fr_cli_option_count; i++) {
        const fr_cli_option *option = &fr_cli_option_table[i];
        if (!(option->commands & command)) continue;
        if (strcmp(group, option->group) != 0) {
            group = option->group;
            printf("\n%s\n", group);
        }
        char left[80], choices[80];
        const char *value = option->value;
        if (option->type == FR_OPT_CHOICE) {
            list_choices(option, choices, sizeof choices);
            value = choices;
        }
        int used = option->letter ? snprintf(left, sizeof left, "  -%c, --%s", option->letter, option->name)
                                  : snprintf(left, sizeof left, "      --%s", option->name);
        if (value && used < (int)sizeof left) snprintf(left + used, sizeof left - (size_t)used, " %s", value);
        if (strlen(left) >= COLUMN)
            printf("%s\n%*s", left, COLUMN, "");
        else
            printf("%-*s", COLUMN, left);
        printf("%s", option->help);
        if (option->fallback) printf(" (default: %s)", option->fallback);
        printf("\n");
    }
}
