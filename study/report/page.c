#include <math.h>

#include "study/report/report.h"

/* Okabe and Ito's colours, which people who confuse red and green can tell apart, a little darker or lighter where the
 * background asks for it. On paper the page is light, whatever the screen was. */
#define LIGHT                                                                                                                    \
    "--bg:#fff;--fg:#1b1f24;--soft:#59636e;--line:#d5dae0;--box:#f5f7f9;--good:#0a7a53;--warn:#a04300;"                          \
    "--s0:#0072b2;--s1:#c65600;--s2:#008a64;--s3:#b4568c;--s4:#8a6d00;--s5:#50565c"
#define DARK                                                                                                                     \
    "--bg:#14171b;--fg:#e4e8ec;--soft:#9aa5b1;--line:#363d45;--box:#1d2126;--good:#3ecf9b;--warn:#ffab5e;"                       \
    "--s0:#56b4e9;--s1:#f08c3a;--s2:#2fc79a;--s3:#e39ac6;--s4:#e5d040;--s5:#b4bcc4"
#define SANS "system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif"

/* A rule a line. */
/* clang-format off */
static const char *const style[] = {
    ":root{color-scheme:light dark;" LIGHT "}",
    "@media (prefers-color-scheme:dark){:root{" DARK "}}",
    "@media print{:root{color-scheme:light;" LIGHT "}}",
    "*{box-sizing:border-box}",
    "body{margin:0 auto;max-width:1180px;padding:24px 20px 60px;background:var(--bg);color:var(--fg);font:16px/1.5 " SANS ";overflow-wrap:anywhere}",
    "h1{font-size:1.7rem;line-height:1.2;margin:0 0 4px}",
    "h2{font-size:1.25rem;margin:44px 0 8px;padding-bottom:4px;border-bottom:1px solid var(--line)}",
    "h3{font-size:1rem;margin:0 0 6px}",
    "p{margin:8px 0;max-width:75ch}",
    "a{color:var(--s0)}",
    "time{white-space:nowrap}",
    ".soft,figcaption,caption{color:var(--soft)}",
    ".small,figcaption,caption{font-size:.875rem}",
    "nav ul{display:flex;flex-wrap:wrap;gap:2px 18px;list-style:none;margin:14px 0 0;padding:0;font-size:.9rem}",
    /* headline */
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:12px;margin:20px 0}",
    ".tile{background:var(--box);border:1px solid var(--line);border-radius:8px;padding:12px 14px}",
    ".tile b,.tile span{display:block;font-variant-numeric:tabular-nums}",
    ".tile b{font-size:1.75rem;line-height:1.25;font-weight:650}",
    ".tile .range{font-size:.95rem}",
    ".tile .name{font-size:.9rem;color:var(--soft)}",
    ".tile .about{font-size:.82rem;color:var(--soft)}",
    ".notice{border:1px solid var(--line);border-left:5px solid var(--good);border-radius:6px;padding:8px 14px;margin:10px 0;background:var(--box)}",
    ".notice.warn{border-left-color:var(--warn)}",
    ".notice p{margin:2px 0;max-width:none}",
    /* plots */
    ".figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr));gap:26px 30px;margin:16px 0;align-items:start}",
    ".figures>.scroll{margin:0;min-width:0}",
    ".stack{display:grid;gap:26px;min-width:0}",
    "figure{margin:0;min-width:0}",
    "figcaption{margin-top:4px}",
    ".plot>svg{display:block;width:100%;height:auto}",
    "svg{fill:none}",
    /* the outline keeps text readable where it crosses lines */
    "svg text{fill:var(--fg);stroke:var(--bg);stroke-width:4px;paint-order:stroke;stroke-linejoin:round;font:12.5px " SANS ";font-variant-numeric:tabular-nums}",
    "svg .mid{text-anchor:middle}",
    "svg .end{text-anchor:end}",
    "svg .label,svg .refname{fill:var(--soft)}",
    "svg .value{font-weight:600}",
    ".grid{stroke:var(--line)}",
    ".axis,.tick{stroke:var(--soft)}",
    ".ref{stroke:var(--soft);stroke-dasharray:5 4}",
    ".s0{stroke:var(--s0);fill:var(--s0)}",
    ".s1{stroke:var(--s1);fill:var(--s1)}",
    ".s2{stroke:var(--s2);fill:var(--s2)}",
    ".s3{stroke:var(--s3);fill:var(--s3)}",
    ".s4{stroke:var(--s4);fill:var(--s4)}",
    ".s5{stroke:var(--s5);fill:var(--s5)}",
    ".line:not(.area),.whisker,.open{fill:none}",
    ".line{stroke-width:2}",
    ".whisker{stroke-width:1.6}",
    ".dot,.bar{stroke-width:0}",
    ".dot.open{stroke-width:2.4}",
    ".area{fill-opacity:.1}",
    ".s1.line{stroke-dasharray:7 3}",
    ".s2.line{stroke-dasharray:2 3}",
    ".s3.line{stroke-dasharray:9 3 2 3}",
    ".s4.line{stroke-dasharray:12 4}",
    ".s5.line{stroke-dasharray:4 2}",
    ".legend{display:flex;flex-wrap:wrap;gap:2px 18px;list-style:none;margin:4px 0 0;padding:0 0 0 8px;font-size:.875rem}",
    ".legend svg{width:30px;height:12px;margin-right:6px;vertical-align:middle}",
    /* tables */
    ".scroll{overflow-x:auto;margin:16px 0}",
    ".tall{max-height:34rem;overflow-y:auto;border-bottom:1px solid var(--line)}",
    "table{border-collapse:collapse;font-size:.9rem;width:max-content}",
    "caption{text-align:left;padding:0 0 6px;max-width:90vw}",
    "th,td{padding:5px 12px 5px 8px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}",
    "td{max-width:28rem;overflow-wrap:break-word}",
    "th{font-weight:600;vertical-align:bottom;white-space:nowrap}",
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}",
    "tbody tr:hover{background:var(--box)}",
    ".tall thead th{position:sticky;top:0;background:var(--bg)}",
    "th button{all:unset;cursor:pointer;font-weight:600}",
    "th button:focus-visible,.scroll:focus-visible,a:focus-visible{outline:2px solid var(--s0);outline-offset:2px}",
    "th button::after{content:'\\2195';color:var(--soft);padding-left:4px;font-weight:400}",
    "th[aria-sort=ascending] button::after{content:'\\2191';color:var(--fg)}",
    "th[aria-sort=descending] button::after{content:'\\2193';color:var(--fg)}",
    /* environment */
    "code,pre{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,monospace;font-size:.875rem}",
    "pre{background:var(--box);border:1px solid var(--line);border-radius:6px;padding:10px 12px;white-space:pre-wrap;margin:8px 0}",
    "dl{display:grid;grid-template-columns:minmax(9rem,max-content) 1fr;gap:3px 20px;margin:8px 0;font-size:.9rem}",
    "dt{color:var(--soft)}",
    "dd{margin:0;overflow-wrap:anywhere}",
    ".columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:4px 40px}",
    ".columns h3{margin-top:14px}",
    "@media (max-width:560px){",
    "body{padding:16px 14px 40px}",
    ".tiles{grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:8px}",
    ".tile b{font-size:1.4rem}",
    "dl{grid-template-columns:minmax(6.5rem,max-content) 1fr;gap:3px 12px}",
    "svg text{font-size:14.5px}}",
    "@media print{@page{margin:14mm}",
    "body{max-width:none;padding:0;font-size:10.5pt}",
    "nav,th button::after{display:none}",
    "figure,.tile,.notice,tr{break-inside:avoid}",
    "h2,h3{break-after:avoid}",
    ".scroll,.tall{overflow:visible;max-height:none}",
    ".tall thead th{position:static}",
    ".figures{grid-template-columns:1fr 1fr;gap:16px 20px}",
    "svg text{font-size:15px}",
    "table{width:auto;font-size:8.5pt}",
    "th,td{padding:2px 6px 2px 4px}",
    "th{white-space:normal}",
    "thead{display:table-header-group}}",
};
/* clang-format on */

/* Sorts tables by a column. Rows without a value come last in both directions. */
static const char script[] = "for(const table of document.querySelectorAll('table.sorts')){"
                             "const body=table.tBodies[0],order=new Intl.Collator(undefined,{numeric:true});"
                             "for(const button of table.tHead.querySelectorAll('button'))button.addEventListener('click',()=>{"
                             "const head=button.closest('th'),at=head.cellIndex,number=head.classList.contains('n');"
                             "const was=head.getAttribute('aria-sort'),down=was?was==='ascending':number;"
                             "for(const th of head.parentNode.cells)th.removeAttribute('aria-sort');"
                             "head.setAttribute('aria-sort',down?'descending':'ascending');"
                             "const key=row=>{const cell=row.cells[at];return "
                             "number?(cell.dataset.v===undefined?null:+cell.dataset.v):cell.textContent};"
                             "const rows=[...body.rows].map((row,i)=>({row,i,key:key(row)}));"
                             "rows.sort((a,b)=>{if(a.key===null||b.key===null)return (a.key===null)-(b.key===null)||a.i-b.i;"
                             "const d=number?a.key-b.key:order.compare(a.key,b.key);return (down?-d:d)||a.i-b.i});"
                             "body.append(...rows.map(r=>r.row))})}";

void fr_page_begin(fr_markup *m, const char *title) {
    fr_markup_raw(m, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
                     "script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n"
                     "<link rel=\"icon\" href=\"data:,\">\n<title>");
    fr_markup_text(m, title);
    fr_markup_raw(m, "</title>\n<style>\n");
    for (size_t i = 0; i < sizeof style / sizeof *style; i++) fr_markup_format(m, "%s\n", style[i]);
    fr_markup_raw(m, "</style>\n</head>\n<body>\n");
}

void fr_page_end(fr_markup *m) {
    fr_markup_raw(m, "<script>");
    fr_markup_raw(m, script);
    fr_markup_raw(m, "</script>\n</body>\n</html>\n");
}

/* ---- Sections and figures --------------------------------------------------------------------------------------- */

void fr_section_end(fr_report *r) {
    if (r->contents.length) fr_markup_raw(&r->body, "</section>\n");
}

void fr_section_begin(fr_report *r, const char *id, const char *title) {
    fr_section_end(r);
    fr_markup_format(&r->contents, "<li><a href=\"#%s\">", id);
    fr_markup_text(&r->contents, title);
    fr_markup_raw(&r->contents, "</a></li>\n");
    fr_markup_format(&r->body, "<section id=\"%s\" aria-labelledby=\"h-%s\">\n<h2 id=\"h-%s\">", id, id, id);
    fr_markup_text(&r->body, title);
    fr_markup_raw(&r->body, "</h2>\n");
}

void fr_section_note(fr_report *r, const char *text) {
    fr_markup_raw(&r->body, "<p class=\"soft small\">");
    fr_markup_text(&r->body, text);
    fr_markup_raw(&r->body, "</p>\n");
}

void fr_figures_begin(fr_report *r) {
    fr_markup_raw(&r->body, "<div class=\"figures\">\n");
}

void fr_figures_end(fr_report *r) {
    fr_markup_raw(&r->body, "</div>\n");
}

void fr_tile(fr_report *r, const char *name, double value, double low, double high, fr_unit unit, const char *note) {
    char a[32], range[72];
    if (!isfinite(value)) return;
    fr_markup_raw(&r->body, "<div class=\"tile\"><span class=\"name\">");
    fr_markup_text(&r->body, name);
    fr_markup_format(&r->body, "</span><b>%s</b>", fr_unit_text(value, unit, a));
    if (isfinite(low) && isfinite(high))
        fr_markup_format(&r->body, "<span class=\"range\">95 %%: %s</span>", fr_range_text(low, high, unit, range));
    if (note) {
        fr_markup_raw(&r->body, "<span class=\"about\">");
        fr_markup_text(&r->body, note);
        fr_markup_raw(&r->body, "</span>");
    }
    fr_markup_raw(&r->body, "</div>\n");
}

void fr_report_notice(fr_report *r, bool good, const char *title, const char *text) {
    fr_markup_format(&r->body, "<div class=\"notice%s\"><p><strong>", good ? "" : " warn");
    fr_markup_text(&r->body, title);
    fr_markup_raw(&r->body, "</strong> ");
    fr_markup_text(&r->body, text);
    fr_markup_raw(&r->body, "</p></div>\n");
}
