#include <math.h>
#include <stdio.h>

#include "core/json.h"
#include "forerun_study.h"
#include "study/report/report.h"

/* The last part of the model's path, which is its name for people; NULL without one. */
static const char *model_name(const cJSON *document) {
    const char *path = fr_path_text(document, "environment.model.path");
    const char *name = path;
    for (; path && *path; path++)
        if (path[0] == '/' && path[1]) name = path + 1;
    return name;
}

/* What ran, in a line. */
static void add_subtitle(fr_markup *m, const cJSON *document) {
    const cJSON *environment = fr_path_object(document, "environment");
    const cJSON *prompts = fr_path_object(document, "prompts");
    const char *created = fr_path_text(document, "created"), *cpu = fr_path_text(environment, "cpu");
    const char *isa = fr_path_text(environment, "isa");
    double threads = fr_path_number(environment, "threads"), count = fr_path_number(prompts, "count");
    double tokens = fr_path_number(prompts, "tokens"), in_template = fr_path_number(prompts, "in_chat_template");
    fr_markup_raw(m, "<p class=\"soft\">");
    if (isfinite(count)) fr_markup_format(m, "%.0f prompt%s", count, count == 1 ? "" : "s");
    if (isfinite(count) && isfinite(tokens)) fr_markup_format(m, " of %.0f tokens", tokens);
    if (in_template == 0) fr_markup_raw(m, ", without a chat template,");
    if (in_template > 0) fr_markup_format(m, ", %.0f in the chat template,", in_template);
    if (cpu) {
        fr_markup_raw(m, isfinite(count) ? " on " : "");
        fr_markup_text(m, cpu);
    }
    if (isfinite(threads)) fr_markup_format(m, ", %.0f thread%s", threads, threads == 1 ? "" : "s");
    if (isa) {
        fr_markup_raw(m, ", ");
        fr_markup_text(m, isa);
    }
    if (created) {
        fr_markup_raw(m, ". <time>");
        fr_markup_text(m, created);
        fr_markup_raw(m, "</time>");
    }
    fr_markup_raw(m, "</p>\n");
}

static void add_page(fr_markup *m, const fr_report *r) {
    const char *kind = fr_report_is(r->document, FR_SCHEMA_ACCEPT) ? "Acceptance study" : "A/B latency study";
    const char *name = model_name(r->document);
    char title[256];
    snprintf(title, sizeof title, "%s%s%.160s", kind, name ? ": " : "", name ? name : "");
    fr_page_begin(m, title);
    fr_markup_raw(m, "<header>\n<h1>");
    fr_markup_text(m, title);
    fr_markup_raw(m, "</h1>\n");
    add_subtitle(m, r->document);
    if (r->contents.length) {
        fr_markup_raw(m, "<nav aria-label=\"Sections\"><ul>\n");
        fr_markup_raw(m, r->contents.bytes);
        fr_markup_raw(m, "</ul></nav>\n");
    }
    fr_markup_raw(m, "</header>\n<main>\n");
    if (r->body.length) fr_markup_raw(m, r->body.bytes);
    fr_markup_raw(m, "</main>\n");
    fr_page_end(m);
}

fr_status fr_study_html(const char *json, char **html, fr_error *error) {
    cJSON *document;
    fr_markup page = {NULL, 0, 0, false};
    *html = NULL;
    FR_TRY(fr_report_parse(json, &document, error));
    fr_report r = {.document = document};
    if (cJSON_IsFalse(fr_json_find(document, "complete")))
        fr_report_notice(&r, false, "The study was interrupted.", "Figures are of what was measured until then.");
    if (fr_path_text(document, "statistics.says")) fr_section_note(&r, fr_path_text(document, "statistics.says"));
    if (fr_report_is(document, FR_SCHEMA_ACCEPT))
        fr_report_accept(&r);
    else
        fr_report_ab(&r);
    fr_report_environment(&r);
    fr_section_end(&r);
    add_page(&page, &r);
    bool failed = page.failed || r.body.failed || r.contents.failed;
    fr_chart_clear(&r);
    fr_markup_release(&r.body);
    fr_markup_release(&r.contents);
    cJSON_Delete(document);
    if (failed) {
        fr_markup_release(&page);
        return fr_fail(error, FR_ERROR_MEMORY, "report: not enough for the page");
    }
    *html = page.bytes;
    return FR_OK;
}
