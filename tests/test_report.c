/* Reports: pages are well-formed and hold nothing that others could have put into them, whatever of the document is
 * missing or wrong; CSV can be read back; all media show the figures of the views; documents keep what is put into them.
 *
 * test_report DIR writes the pages of the documents in tests/data to DIR and tests nothing (tests/test_report_page.sh).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "forerun_study.h"
#include "study/environment.h"
#include "study/report/svg.h"
#include "study/report/views.h"
#include "study/result.h"

static const char *const names[] = {"accept", "ab"};

static char *read_data(const char *name) {
    char path[512], *text;
    size_t length;
    fr_error error;
    snprintf(path, sizeof path, "%s/data/report-%s.json", FR_TEST_DIR, name);
    if (fr_read_file(path, 1 << 24, &text, &length, &error) != FR_OK) fail_msg("%s", error.message);
    return text;
}

static cJSON *parse_data(const char *name) {
    char *text = read_data(name);
    cJSON *document = cJSON_Parse(text);
    assert_non_null(document);
    fr_free(text);
    return document;
}

/* ---- A strict reader of pages -------------------------------------------------------------------------------- */

enum { MOST_OPEN = 32, MOST_IDS = 512 };

typedef struct page {
    const char *at;
    char open[MOST_OPEN][16];
    int depth;
    char ids[MOST_IDS][24], wanted[MOST_IDS][24];
    int num_ids, num_wanted, scripts;
} page;

static void copy_name(char *to, size_t room, const char *from, size_t length) {
    assert_in_range(length, 1, room - 1);
    memcpy(to, from, length);
    to[length] = '\0';
}

/* Every & begins one of the references that we write; no control characters. */
static const char *read_text(const char *at, const char *stop) {
    static const char *const references[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (; *at && !strchr(stop, *at); at++) {
        bool known = *at != '&';
        for (size_t i = 0; i < 5 && !known; i++) known = strncmp(at, references[i], strlen(references[i])) == 0;
        if (!known) fail_msg("a bare & before: %.60s", at);
        if ((unsigned char)*at < 0x20 && *at != '\n' && *at != '\t') fail_msg("a control character before: %.60s", at + 1);
    }
    return at;
}

/* The only attributes that a report needs: none of them can run a script, or load anything but data. */
static void check_attribute(page *p, const char *name, const char *value, size_t length) {
    static const char *const allowed[] = {
        "lang",       "charset",    "name", "content",  "http-equiv", "rel",    "href",
        "id",         "class",      "role", "tabindex", "scope",      "type",   "viewBox",
        "d",          "x",          "y",    "x1",       "x2",         "y1",     "y2",
        "cx",         "cy",         "r",    "width",    "height",     "data-v", "aria-labelledby",
        "aria-label", "aria-hidden"};
    bool known = false;
    char word[24];
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) known |= strcmp(name, allowed[i]) == 0;
    if (!known) fail_msg("an attribute that reports do not have: %s=%.*s", name, (int)length, value);
    if (strcmp(name, "id") == 0) {
        copy_name(word, sizeof word, value, length);
        for (int i = 0; i < p->num_ids; i++)
            if (strcmp(p->ids[i], word) == 0) fail_msg("the id %s is there twice", word);
        assert_in_range(p->num_ids, 0, MOST_IDS - 1);
        strcpy(p->ids[p->num_ids++], word);
    }
    bool anchor = strcmp(name, "href") == 0 && value[0] == '#';
    if (strcmp(name, "href") == 0 && !anchor) assert_memory_equal(value, "data:,", 6);
    if (!anchor && strcmp(name, "aria-labelledby") != 0) return;
    for (const char *from = value + anchor; from < value + length;) {
        size_t n = strcspn(from, " \"");
        assert_in_range(p->num_wanted, 0, MOST_IDS - 1);
        copy_name(p->wanted[p->num_wanted++], sizeof p->wanted[0], from, n);
        from += n + 1;
    }
}

/* Reads a tag; p->at is behind its <. */
static void read_tag(page *p) {
    static const char *const empty[] = {"meta", "link"};
    char tag[16], name[32];
    bool closing = *p->at == '/', ends = false;
    p->at += closing;
    size_t length = strspn(p->at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    copy_name(tag, sizeof tag, p->at, length);
    p->at += length;
    while (*p->at != '>') {
        if (strncmp(p->at, "/>", 2) == 0) {
            ends = true;
            p->at++;
            break;
        }
        assert_int_equal(*p->at, ' ');
        p->at++;
        length = strcspn(p->at, "= />");
        copy_name(name, sizeof name, p->at, length);
        p->at += length;
        if (strncmp(p->at, "=\"", 2) != 0) fail_msg("an attribute without a quoted value: %.60s", p->at - length);
        const char *value = p->at + 2;
        p->at = read_text(value, "\"<");
        assert_int_equal(*p->at, '"');
        check_attribute(p, name, value, (size_t)(p->at - value));
        p->at++;
    }
    p->at++;
    for (size_t i = 0; i < 2; i++) ends |= strcmp(tag, empty[i]) == 0;
    if (closing) {
        if (p->depth == 0 || strcmp(p->open[p->depth - 1], tag) != 0) fail_msg("</%s> closes nothing: %.60s", tag, p->at);
        p->depth--;
    } else if (!ends) {
        assert_in_range(p->depth, 0, MOST_OPEN - 1);
        strcpy(p->open[p->depth++], tag);
    }
    if (closing || (strcmp(tag, "script") != 0 && strcmp(tag, "style") != 0)) return;
    p->scripts += strcmp(tag, "script") == 0;
    p->at = strstr(p->at, "</"); /* ours, and without such a thing inside */
    assert_non_null(p->at);
}

static void check_page(const char *html) {
    page p = {.at = html};
    static const char doctype[] = "<!DOCTYPE html>\n";
    assert_memory_equal(html, doctype, sizeof doctype - 1);
    for (p.at += sizeof doctype - 1; *p.at;) {
        if (*p.at == '<') {
            p.at++;
            read_tag(&p);
        } else {
            p.at = read_text(p.at, "<");
        }
    }
    assert_int_equal(p.depth, 0);
    assert_int_equal(p.scripts, 1);
    for (int i = 0; i < p.num_wanted; i++) {
        bool found = false;
        for (int j = 0; j < p.num_ids; j++) found |= strcmp(p.ids[j], p.wanted[i]) == 0;
        if (!found) fail_msg("nothing has the id %s", p.wanted[i]);
    }
    assert_null(strstr(html, "://")); /* nothing from a network */
    assert_null(strstr(html, "NaN"));
    assert_null(strstr(html, "nan\""));
    assert_null(strstr(html, "inf\""));
}

static char *page_of(const char *json) {
    char *html = NULL;
    fr_error error;
    if (fr_study_html(json, &html, &error) != FR_OK) fail_msg("%s", error.message);
    check_page(html);
    return html;
}

static char *page_of_document(const cJSON *document) {
    char *json = cJSON_PrintUnformatted(document);
    assert_non_null(json);
    char *html = page_of(json);
    cJSON_free(json);
    return html;
}

static bool has_section(const char *html, const char *id) {
    char text[64];
    snprintf(text, sizeof text, "<section id=\"%s\"", id);
    return strstr(html, text) != NULL;
}

/* ---- Pages --------------------------------------------------------------------------------------------------- */

static void whole_documents_have_all_their_sections(void **state) {
    static const char *const sections[2][12] = {
        {"positions", "configurations", "ablation", "domains", "calibration", "experts", "rejected", "prompts", "environment"},
        {"speedup", "latency", "acceptance", "cost", "prompts", "environment"}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        char *json = read_data(names[i]), *html = page_of(json);
        for (int j = 0; sections[i][j]; j++)
            if (!has_section(html, sections[i][j])) fail_msg("%s: no section %s", names[i], sections[i][j]);
        fr_free(html);
        fr_free(json);
    }
}

static void the_headline_has_rate_length_and_speedup(void **state) {
    (void)state;
    char *json = read_data("accept"), *html = page_of(json);
    assert_non_null(strstr(html, "<b>68.6\xC2\xA0%</b>"));
    assert_null(strstr(html, "67.5 to 69.7")); /* the document has no interval of it, and none is made up */
    assert_non_null(strstr(html, "<b>3.059</b>"));
    fr_free(html);
    fr_free(json);
    json = read_data("ab");
    html = page_of(json);
    assert_non_null(strstr(html, "on, depth 1 over off</span><b>1.31\xC3\x97</b>"));
    assert_non_null(strstr(html, "Outputs are identical."));
    assert_non_null(strstr(html, "break-even 37.1\xC2\xA0%"));
    fr_free(html);
    fr_free(json);
}

/* What others wrote is there to be read, and only that (check_page sees to the rest). */
static void text_of_others_is_only_text(void **state) {
    (void)state;
    char *json = read_data("accept"), *html = page_of(json);
    assert_non_null(strstr(html, "<bdi>&lt;img src=x onerror=alert(1)&gt;</bdi>"));
    assert_non_null(strstr(html, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
    assert_non_null(strstr(html, "<code><bdi>\xE2\x8F\x8E</bdi></code>")); /* a line break as a token */
    assert_non_null(strstr(html, "--html &#39;it&#39;\\&#39;&#39;s.html&#39;"));
    fr_free(html);
    fr_free(json);
    html = page_of("{\"schema\": \"forerun.accept/1\", \"results\": [{\"id\": \"\xFF\xC3<\x7F\"}]}");
    assert_non_null(strstr(html, "<bdi>\xEF\xBF\xBD\xEF\xBF\xBD&lt;\xEF\xBF\xBD</bdi>"));
    fr_free(html);
}

static void what_a_document_lacks_is_left_out(void **state) {
    static const struct {
        const char *document, *key, *section;
    } parts[] = {{"accept", "environment", NULL}, /* the command is still in that section */
                 {"accept", "expert_overlap", "experts"},
                 {"ab", "arms", "latency"},
                 {"ab", "comparisons", "speedup"},
                 {"ab", "cost_model", "cost"},
                 {"ab", "compare", "compare"},
                 {"ab", "results", "prompts"}};
    (void)state;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        cJSON *document = parse_data(parts[i].document);
        assert_non_null(cJSON_GetObjectItemCaseSensitive(document, parts[i].key));
        cJSON_DeleteItemFromObjectCaseSensitive(document, parts[i].key);
        char *html = page_of_document(document);
        if (parts[i].section && has_section(html, parts[i].section))
            fail_msg("%s is drawn without %s", parts[i].section, parts[i].key);
        fr_free(html);
        cJSON_Delete(document);
    }
    cJSON *document = parse_data("accept");
    cJSON *configurations = cJSON_GetObjectItem(document, "configurations");
    while (cJSON_GetArraySize(configurations) > 1) cJSON_DeleteItemFromArray(configurations, 1);
    char *html = page_of_document(document);
    assert_false(has_section(html, "ablation"));
    assert_false(has_section(html, "configurations"));
    assert_true(has_section(html, "positions"));
    fr_free(html);
    cJSON_Delete(document);
}

static void a_document_of_nothing_is_an_empty_page(void **state) {
    static const char *const documents[] = {"{\"schema\": \"forerun.accept/1\"}", "{\"schema\": \"forerun.ab/1\"}"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        char *html = page_of(documents[i]);
        assert_null(strstr(html, "<section"));
        assert_null(strstr(html, "<figure"));
        assert_null(strstr(html, "<nav"));
        fr_free(html);
    }
}

/* Puts each wrong value in the place of every value of the document, in turn, and makes the page. */
static void spoil(const cJSON *document, cJSON *object, int depth) {
    static const char *const wrong[] = {"null", "\"text\"", "-1e308", "[]", "[null, {}, \"a\", [1]]", "{}", "1e-300"};
    for (cJSON *item = object->child; item; item = item->next) {
        if (item->string && strcmp(item->string, "schema") == 0) continue;
        cJSON original = *item;
        cJSON *value = cJSON_Parse(wrong[(size_t)rand() % (sizeof wrong / sizeof *wrong)]);
        item->type = value->type;
        item->child = value->child;
        item->valuedouble = value->valuedouble;
        item->valuestring = value->valuestring;
        fr_free(page_of_document(document));
        *item = original;
        cJSON_Delete(value);
        /* the first of a list is as good as the others */
        if (item->child && depth < 4 && (!cJSON_IsArray(object) || item == object->child)) spoil(document, item, depth + 1);
    }
}

/* Keeps the first two of every array: pages of what is left are made hundreds of times. */
static void thin_out(cJSON *object) {
    for (cJSON *item = object->child; item; item = item->next) thin_out(item);
    while (cJSON_IsArray(object) && cJSON_GetArraySize(object) > 2) cJSON_DeleteItemFromArray(object, 2);
}

static void no_wrong_value_breaks_a_page(void **state) {
    (void)state;
    srand(1);
    for (int i = 0; i < 2; i++) {
        cJSON *document = parse_data(names[i]);
        thin_out(document);
        spoil(document, document, 0);
        cJSON_Delete(document);
    }
}

static void what_is_no_document_is_refused(void **state) {
    static const char *const texts[] = {
        "", "{", "[]", "3", "{\"schema\": 1}", "{\"schema\": \"forerun.accept/2\"}", "{\"schema\": \"forerun.ab\"}", "{}"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *out = (char *)1;
        fr_error error = {0};
        assert_int_equal(fr_study_html(texts[i], &out, &error), FR_ERROR_FORMAT);
        assert_null(out);
        assert_true(error.message[0]);
        out = (char *)1;
        assert_int_equal(fr_study_csv(texts[i], &out, NULL), FR_ERROR_FORMAT);
        assert_null(out);
    }
}

/* ---- Views --------------------------------------------------------------------------------------------------- */

static void paths_lead_through_objects_and_arrays(void **state) {
    cJSON *json = cJSON_Parse("{\"a\": {\"b\": [1, {\"c\": 2.5}, null], \"t\": \"text\", \"empty\": [], \"n\": null},"
                              "\"a.b\": 9, \"ci\": [null, 3], \"ci95\": [0.25, 0.5]}");
    double low, high;
    (void)state;
    assert_true(fr_path_number(json, "a.b.0") == 1);
    assert_true(fr_path_number(json, "a.b.1.c") == 2.5);
    assert_true(fr_path_number(json, "a.t|a.missing|a.b.1.c|a.b.0") == 2.5); /* the first number */
    assert_string_equal(fr_path_text(json, "a.b.0|a.t"), "text");
    assert_true(isnan(fr_path_number(json, "a.b.3|a.b.c|a.t.c|a.n|a.n.c")));
    assert_null(fr_path_value(json, "a.b.2|a.n"));
    assert_null(fr_path_array(json, "a.empty"));
    assert_int_equal(cJSON_GetArraySize(fr_path_array(json, "a.empty|a.b")), 3);
    assert_null(fr_path_object(json, "a.b"));
    assert_null(fr_path_value(NULL, "a"));
    fr_path_interval(json, "a.t|ci|ci95", &low, &high);
    assert_true(low == 0.25 && high == 0.5);
    fr_path_interval(json, "ci", &low, &high);
    assert_true(isnan(low) && high == 3);
    cJSON_Delete(json);
}

static bool is_on_page(const char *html, double value) {
    char text[64];
    snprintf(text, sizeof text, "data-v=\"%.10g\"", value);
    return !isfinite(value) || strstr(html, text) != NULL;
}

/* Every number of a column that has a heading on the page, of the first configuration in an acceptance study. */
static void figures_of_all_views_are_on_the_page(void **state) {
    static const struct {
        const char *document, *from;
        const fr_view *view;
    } views[] = {{"ab", "", &fr_view_arms},
                 {"ab", "", &fr_view_comparisons},
                 {"ab", "", &fr_view_compared_arms},
                 {"ab", "", &fr_view_compared_speedups},
                 {"accept", "", &fr_view_configurations},
                 {"accept", "configurations.0", &fr_view_positions},
                 {"accept", "configurations.0", &fr_view_domains},
                 {"accept", "configurations.0", &fr_view_rejected}};
    (void)state;
    for (size_t i = 0; i < sizeof views / sizeof *views; i++) {
        const fr_view *view = views[i].view;
        char *json = read_data(views[i].document), *html = page_of(json);
        cJSON *document = cJSON_Parse(json);
        const cJSON *array = fr_path_array(fr_path_value(document, views[i].from), view->array), *item;
        int found = 0;
        assert_non_null(array);
        cJSON_ArrayForEach(item, array) {
            for (const fr_column *c = view->columns; c < view->columns + view->num_columns; c++) {
                double low, high, value = fr_column_number(c, item);
                if (!c->page || c->kind != FR_CELL_NUMBER) continue;
                fr_column_interval(c, item, &low, &high);
                if (!is_on_page(html, value) || !is_on_page(html, low))
                    fail_msg("%s: %s of an item is not on the page", view->array, c->path);
                found += isfinite(value);
            }
        }
        assert_true(found > 0);
        cJSON_Delete(document);
        fr_free(html);
        fr_free(json);
    }
}

/* Names are keys of a prompt's figures; they are not read as paths. */
static void names_of_arms_may_hold_dots_and_bars(void **state) {
    char *html = page_of("{\"schema\": \"forerun.ab/1\", \"results\": [{\"id\": \"p\", \"arms\": {\"a.b|c\":"
                         "{\"decode_tokens_per_s\": 62.5}}, \"speedup\": {\"a.b|c\": 1.375}}]}");
    (void)state;
    assert_non_null(strstr(html, "a.b|c, tokens/s"));
    assert_true(is_on_page(html, 62.5));
    assert_true(is_on_page(html, 1.375));
    fr_free(html);
}

/* ---- Plots --------------------------------------------------------------------------------------------------- */

/* The y of the text element that says `text`. */
static double y_of_text(const char *svg, const char *text) {
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\">%s</text>", text);
    const char *at = strstr(svg, pattern);
    assert_non_null(at);
    while (strncmp(at, "y=\"", 3) != 0) at--;
    return atof(at + 3);
}

static void points_lie_where_the_axis_says(void **state) {
    fr_point points[] = {{1, 0.25, 0.2, 0.4}, {2, NAN, NAN, NAN}, {3, 1, NAN, NAN}};
    fr_series series = {"a", FR_MARK_DOTS, points, 3};
    fr_plot plot = {.title = "t <&>",
                    .x = {.label = "x"},
                    .y = {.label = "y", .unit = FR_UNIT_PERCENT, .low = 0, .high = 1},
                    .series = &series,
                    .num_series = 1};
    fr_markup m = {NULL, 0, 0, false};
    (void)state;
    fr_plot_draw(&m, &plot, 1);
    assert_false(m.failed);
    double bottom = y_of_text(m.bytes, "0 %"), top = y_of_text(m.bytes, "100 %");
    const char *dot = strstr(m.bytes, "<circle");
    assert_non_null(dot);
    double y = atof(strstr(dot, "cy=\"") + 4) + 4; /* texts hang four units lower */
    assert_float_equal(y, bottom + 0.25 * (top - bottom), 0.2);
    const char *whisker = strstr(m.bytes, "whisker");
    assert_non_null(whisker);
    double from, to, x;
    assert_int_equal(sscanf(strstr(whisker, "d=\"M"), "d=\"M%lf %lfV%lf", &x, &from, &to), 3);
    assert_float_equal(from + 4, bottom + 0.2 * (top - bottom), 0.2);
    assert_float_equal(to + 4, bottom + 0.4 * (top - bottom), 0.2);
    dot = strstr(dot + 1, "<circle"); /* the unknown point is not there */
    assert_non_null(dot);
    assert_float_equal(atof(strstr(dot, "cy=\"") + 4) + 4, top, 0.2);
    assert_null(strstr(dot + 1, "<circle"));
    assert_non_null(strstr(m.bytes, "t &lt;&amp;&gt;"));
    fr_markup_release(&m);
}

static void numbers_are_written_for_people(void **state) {
    char text[72];
    (void)state;
    assert_string_equal(fr_unit_text(0.8525, FR_UNIT_PERCENT, text), "85.2\xC2\xA0%");
    assert_string_equal(fr_unit_text(1.306, FR_UNIT_TIMES, text), "1.31\xC3\x97");
    assert_string_equal(fr_unit_text(12.34, FR_UNIT_MS, text), "12.3\xC2\xA0ms");
    assert_string_equal(fr_unit_text(NAN, FR_UNIT_MS, text), "\xE2\x80\x93");
    assert_string_equal(fr_range_text(0.81, 0.852, FR_UNIT_PERCENT, text), "81.0 to 85.2\xC2\xA0%");
    assert_string_equal(fr_range_text(0.9, 1.1, FR_UNIT_TIMES, text), "0.90 to 1.10\xC3\x97");
    assert_string_equal(fr_range_text(NAN, 1, FR_UNIT_TIMES, text), "\xE2\x80\x93");
}

/* ---- CSV ------------------------------------------------------------------------------------------------------ */

enum { FIELDS = 9 };

/* Reads a row by RFC 4180 into fields; returns what follows it. */
static const char *read_row(const char *at, char (*fields)[256]) {
    for (int i = 0; i < FIELDS; i++) {
        size_t n = 0;
        bool quoted = *at == '"';
        at += quoted;
        for (; *at; at++) {
            if (quoted && at[0] == '"' && at[1] == '"')
                at++;
            else if (quoted ? *at == '"' : *at == ',' || *at == '\r')
                break;
            else if (!quoted && strchr("\"\n", *at))
                fail_msg("%c in a field without quotes: %.60s", *at, at);
            assert_in_range(n, 0, 254);
            fields[i][n++] = *at;
        }
        fields[i][n] = '\0';
        at += quoted;
        assert_int_equal(*at, i + 1 < FIELDS ? ',' : '\r');
        at++;
    }
    assert_int_equal(*at, '\n');
    return at + 1;
}

/* The row of a table, configuration, item and measure in a document's CSV; false when there is none. */
static bool find_row(const char *json, const char *const (*wanted)[4], char (*fields)[256]) {
    char *csv = NULL;
    bool found = false;
    assert_int_equal(fr_study_csv(json, &csv, NULL), FR_OK);
    for (const char *at = csv; *at && !found;) {
        at = read_row(at, fields);
        found = true;
        for (int i = 0; i < 4; i++) found &= strcmp(fields[i + 1], (*wanted)[i]) == 0;
    }
    fr_free(csv);
    return found;
}

static void a_comparison_with_a_run_before_is_shown(void **state) {
    static const char *const speed[4] = {"compare", "auto", "", "after"}, *const speedup[4] = {"compare", "auto", "off", "ratio"};
    static const char *const texts[] = {"2026-09-01T09:30:00Z",
                                        "isa differs: &quot;avx2&quot; before",
                                        "1 of 48 prompts gave another text",
                                        "auto, tokens/s",
                                        "701.25",
                                        "Ratios are after over"};
    char *json = read_data("ab"), *html = page_of(json), fields[FIELDS][256];
    (void)state;
    assert_true(has_section(html, "compare"));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!strstr(html, texts[i])) fail_msg("the comparison does not show %s", texts[i]);
    assert_true(find_row(json, &speed, fields));
    assert_string_equal(fields[5], "728.564532");
    assert_true(find_row(json, &speedup, fields));
    assert_string_equal(fields[5], "0.9457");
    assert_string_equal(fields[6], "0.936");
    assert_string_equal(fields[7], "0.957");
    assert_string_equal(fields[8], "48");
    fr_free(html);
    fr_free(json);
}

/* A document may come from anywhere: a title is text, and a number of any size fits its place. */
static void titles_and_numbers_of_others_fit_their_places(void **state) {
    (void)state;
    char *json = read_data("ab");
    cJSON *document = cJSON_Parse(json);
    cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(document, "comparisons"), 0);
    cJSON_ReplaceItemInObject(cJSON_GetObjectItem(document, "compare"), "before",
                              cJSON_CreateString("<img src=x onerror=alert(1)>"));
    cJSON_ReplaceItemInObject(first, "pairs", cJSON_CreateNumber(1e300));
    char *text = cJSON_PrintUnformatted(document), *html = page_of(text);
    assert_true(has_section(html, "compare"));
    assert_null(strstr(html, "<img"));
    assert_non_null(strstr(html, "Against the run before, of &lt;img src=x"));
    fr_free(html);
    cJSON_free(text);
    cJSON_Delete(document);
    fr_free(json);
}

/* Which of its two countings a teacher-forced study shows, and what the other one came to. */
static void teacher_forced_studies_say_what_they_count(void **state) {
    static const char *const along[4] = {"along_cycles", "depth 2", "", "acceptance_rate"};
    char json[] = "{\"schema\": \"forerun.accept/1\", \"configurations\": [{\"name\": \"depth 2\", \"mode\": \"teacher-forced\","
                  "\"along_cycles\": {\"num_draft_tokens\": 40, \"num_accepted_tokens\": 13, \"acceptance_rate\": 0.325,"
                  "\"mean_acceptance_length\": 1.65}}]}";
    char fields[FIELDS][256], *html = page_of(json), *generated = strstr(json, "teacher-forced");
    (void)state;
    assert_non_null(strstr(html, "counts each position of a text"));
    assert_non_null(strstr(html, "32.5"));
    assert_non_null(strstr(html, "1.650"));
    fr_free(html);
    assert_true(find_row(json, &along, fields));
    assert_string_equal(fields[5], "0.325");
    assert_string_equal(fields[8], "40");
    memcpy(generated, "generated     ", strlen("teacher-forced"));
    html = page_of(json);
    assert_null(strstr(html, "counts each position"));
    fr_free(html);
}

static void csv_can_be_read_back(void **state) {
    static const char *const ids[] = {"a,b\r\n\"c\"", "a,b\r\n\"c\""};
    (void)state;
    for (int i = 0; i < 2; i++) {
        char *json = read_data(names[i]), *csv = NULL, fields[FIELDS][256];
        int rows = 0, found = 0, position = 0, speedup = 0;
        assert_int_equal(fr_study_csv(json, &csv, NULL), FR_OK);
        const char *at = read_row(csv, fields);
        assert_string_equal(fields[5], "value");
        assert_string_equal(fields[8], "n");
        while (*at) {
            char *end;
            at = read_row(at, fields);
            rows++;
            for (int j = 5; j < FIELDS; j++) {
                double value = strtod(fields[j], &end);
                assert_int_equal(*end, 0);
                assert_true(isfinite(value));
            }
            assert_true(fields[5][0]);
            found += strcmp(fields[3], ids[i]) == 0;
            if (strcmp(fields[1], "position") == 0 && strcmp(fields[2], "depth 3, T 0, hidden post, recycle post") == 0 &&
                strcmp(fields[3], "1") == 0 && strcmp(fields[4], "rate") == 0) {
                assert_float_equal(atof(fields[5]), 0.86, 1e-9);
                assert_string_equal(fields[8], "2400");
                position++;
            }
            if (strcmp(fields[1], "comparison") == 0 && strcmp(fields[2], "auto") == 0 &&
                strcmp(fields[4], "speedup_median") == 0) {
                assert_string_equal(fields[5], "1.47");
                assert_string_equal(fields[6], "1.435");
                speedup++;
            }
        }
        assert_true(rows > 200);
        assert_true(found > 0);
        assert_int_equal(position, i == 0);
        assert_int_equal(speedup, i == 1);
        fr_free(csv);
        fr_free(json);
    }
}

/* A value, its interval and what it is a share of. */
static void check_row(const char *json, const char *const (*wanted)[4], const char *const (*expected)[4]) {
    char fields[FIELDS][256];
    if (!find_row(json, wanted, fields)) fail_msg("no row %s,%s,%s,%s", (*wanted)[0], (*wanted)[1], (*wanted)[2], (*wanted)[3]);
    for (int i = 0; i < 4; i++) assert_string_equal(fields[5 + i], (*expected)[i]);
}

/* What a study of latencies says in numbers is all there, each once. */
static void csv_has_every_number_of_a_study_once(void **state) {
    static const char json[] =
        "{\"schema\": \"forerun.ab/1\", \"comparisons\": [{\"a\": \"off\", \"b\": \"on\", \"units\": 8, \"pairs\": 16,"
        "\"slower_prompts\": {\"count\": 2, \"share\": 0.25, \"beyond_noise\": 1}}],"
        "\"noise\": {\"a\": \"off\", \"b\": \"off (again)\", \"spread\": 0.03, \"resolution\": 0.0125},"
        "\"cost_model\": {\"unique_experts\": [2, 3.5], \"arms\": [{\"name\": \"on\", \"tokens_per_cycle\": 1.75}],"
        "\"curve\": [{\"acceptance\": 0.5, \"speedup\": 1.125, \"speedup_by_bytes\": 1.25}]},"
        "\"synthetic\": [{\"target\": 0.5, \"acceptance\": 0.52, \"acceptance_ci95\": [0.4, 0.6], \"judged\": 100,"
        "\"accepted\": 52, \"verdict\": \"faster\", \"speedup\": {\"median\": 1.5, \"ci95\": [1.4, 1.6]},"
        "\"predicted_speedup\": 1.625, \"break_even_acceptance\": null, \"tpot_ms\": {\"p50\": 4.5, \"samples\": 16}}]}";
    static const struct {
        const char *at[4], *is[4];
    } rows[] = {
        {{"comparison", "on", "off", "slower_prompts"}, {"2", "", "", ""}},
        {{"comparison", "on", "off", "slower_share"}, {"0.25", "", "", "8"}},
        {{"comparison", "on", "off", "slower_beyond_noise"}, {"1", "", "", ""}},
        {{"noise", "off (again)", "off", "spread"}, {"0.03", "", "", ""}},
        {{"noise", "off (again)", "off", "resolution"}, {"0.0125", "", "", ""}},
        {{"pass_by_rows", "", "2", "unique_experts"}, {"3.5", "", "", ""}},
        {{"cost_model", "on", "", "tokens_per_cycle"}, {"1.75", "", "", ""}},
        {{"predicted_by_acceptance", "", "0.5", "speedup_by_bytes"}, {"1.25", "", "", ""}},
        {{"synthetic", "", "0.5", "acceptance"}, {"0.52", "0.4", "0.6", "100"}},
        {{"synthetic", "", "0.5", "accepted"}, {"52", "", "", ""}},
        {{"synthetic", "", "0.5", "speedup_median"}, {"1.5", "1.4", "1.6", ""}},
        {{"synthetic", "", "0.5", "predicted_speedup"}, {"1.625", "", "", ""}},
        {{"synthetic", "", "0.5", "tpot_ms_p50"}, {"4.5", "", "", ""}},
    };
    char *csv = NULL;
    int lines = 0;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_row(json, &rows[i].at, &rows[i].is);
    assert_int_equal(fr_study_csv(json, &csv, NULL), FR_OK);
    for (const char *at = csv; (at = strchr(at, '\n')); at++) lines++;
    /* With those of the curve, of the other row count and of the rest of the synthetic arm, and the header. */
    assert_int_equal(lines, sizeof rows / sizeof *rows + 1 + 1 + 2 + 1);
    fr_free(csv);
}

/* ---- Documents ------------------------------------------------------------------------------------------------ */

static void a_document_keeps_what_is_put_into_it(void **state) {
    fr_json_builder d;
    fr_study_result *result = NULL;
    (void)state;
    fr_json_begin(&d);
    fr_json_add_count(&d, d.root, "large", UINT64_C(18446744073709551615));
    fr_json_add_count(&d, d.root, "small", 7);
    fr_json_add_real(&d, d.root, "third", 1.0 / 3.0);
    fr_json_add_real(&d, d.root, "unknown", INFINITY);
    fr_json_add_ratio(&d, d.root, "of_none", 1, 0);
    fr_json_add_interval(&d, d.root, "interval", 0.25, NAN);
    fr_json_add_bytes(&d, d.root, "bytes", "a\xC3(\0\xE6\x97", 6);
    assert_int_equal(fr_study_finish(&d, &result, NULL), FR_OK);
    assert_null(d.root);
    const char *json = fr_study_json(result);
    assert_non_null(strstr(json, "18446744073709551615"));
    assert_non_null(strstr(json, "0.3333333333,")); /* ten digits */
    cJSON *read = cJSON_Parse(json);
    assert_int_equal(cJSON_GetObjectItem(read, "small")->valueint, 7);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(read, "unknown")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(read, "of_none")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(read, "interval")));
    assert_string_equal(cJSON_GetObjectItem(read, "bytes")->valuestring, "a\xEF\xBF\xBD(\xEF\xBF\xBD\xEF\xBF\xBD");
    cJSON_Delete(read);
    fr_study_destroy(result);
    fr_study_destroy(NULL);
}

/* Adding to what could not be made is remembered and reported at the end. */
static void memory_that_ran_out_is_reported_at_the_end(void **state) {
    fr_json_builder d;
    fr_study_result *result = (fr_study_result *)1;
    fr_error error;
    (void)state;
    fr_json_begin(&d);
    fr_json_add_count(&d, NULL, "lost", 1);
    assert_null(fr_json_add_object(&d, d.root, "later"));
    assert_int_equal(fr_study_finish(&d, &result, &error), FR_ERROR_MEMORY);
    assert_null(result);
}

static void the_header_says_what_ran_on_what(void **state) {
    static const char *const command[] = {"forerun", "accept", "it's"};
    fr_study_origin origin = {FR_TEST_DIR "/golden/pico-mtp-s1", command, 3};
    fr_model *model = NULL;
    fr_json_builder d;
    fr_study_result *result = NULL;
    fr_error error;
    (void)state;
    if (fr_model_open(origin.model_path, NULL, &model, &error) != FR_OK) fail_msg("%s", error.message);
    fr_json_begin(&d);
    fr_json_add_real(&d, fr_study_header(&d, "forerun.accept/1", model, &origin, 42), "temperature", 0.5);
    assert_int_equal(fr_study_finish(&d, &result, NULL), FR_OK);
    cJSON *read = cJSON_Parse(fr_study_json(result)), *environment = cJSON_GetObjectItem(read, "environment");
    const char *created = cJSON_GetStringValue(cJSON_GetObjectItem(read, "created"));
    int year, month, day, hour, minute, second;
    assert_non_null(created);
    assert_int_equal(sscanf(created, "%d-%d-%dT%d:%d:%dZ", &year, &month, &day, &hour, &minute, &second), 6);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(read, "command")), 3);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(environment, "forerun")), fr_version());
    assert_int_equal(cJSON_GetObjectItem(environment, "seed")->valueint, 42);
    assert_true(cJSON_GetArraySize(cJSON_GetObjectItem(environment, "isa_available")) >= 1);
    cJSON *described = cJSON_GetObjectItem(environment, "model");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(described, "path")), origin.model_path);
    assert_int_equal(strlen(cJSON_GetStringValue(cJSON_GetObjectItem(described, "fingerprint"))), 16);
    assert_true(cJSON_GetObjectItem(cJSON_GetObjectItem(described, "parameters"), "main_total")->valuedouble > 0);
    assert_true(cJSON_GetObjectItem(cJSON_GetObjectItem(environment, "options"), "temperature")->valuedouble == 0.5);
    char *html = page_of(fr_study_json(result));
    assert_true(has_section(html, "environment"));
    assert_non_null(strstr(html, "forerun accept &#39;it&#39;\\&#39;&#39;s&#39;"));
    fr_free(html);
    cJSON_Delete(read);
    fr_study_destroy(result);
    fr_model_destroy(model);
}

static int write_pages(const char *directory) {
    for (int i = 0; i < 2; i++) {
        char path[512], *json = read_data(names[i]), *html = NULL;
        snprintf(path, sizeof path, "%s/%s.html", directory, names[i]);
        FILE *file = fopen(path, "w");
        if (!file || fr_study_html(json, &html, NULL) != FR_OK || fputs(html, file) < 0 || fclose(file) != 0) return 1;
        fr_free(html);
        fr_free(json);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_documents_have_all_their_sections),
        cmocka_unit_test(the_headline_has_rate_length_and_speedup),
        cmocka_unit_test(text_of_others_is_only_text),
        cmocka_unit_test(what_a_document_lacks_is_left_out),
        cmocka_unit_test(a_document_of_nothing_is_an_empty_page),
        cmocka_unit_test(no_wrong_value_breaks_a_page),
        cmocka_unit_test(what_is_no_document_is_refused),
        cmocka_unit_test(paths_lead_through_objects_and_arrays),
        cmocka_unit_test(figures_of_all_views_are_on_the_page),
        cmocka_unit_test(names_of_arms_may_hold_dots_and_bars),
        cmocka_unit_test(points_lie_where_the_axis_says),
        cmocka_unit_test(numbers_are_written_for_people),
        cmocka_unit_test(csv_can_be_read_back),
        cmocka_unit_test(csv_has_every_number_of_a_study_once),
        cmocka_unit_test(a_comparison_with_a_run_before_is_shown),
        cmocka_unit_test(titles_and_numbers_of_others_fit_their_places),
        cmocka_unit_test(teacher_forced_studies_say_what_they_count),
        cmocka_unit_test(a_document_keeps_what_is_put_into_it),
        cmocka_unit_test(memory_that_ran_out_is_reported_at_the_end),
        cmocka_unit_test(the_header_says_what_ran_on_what),
    };
    if (argc > 1) return write_pages(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
