/* The terminal's renderer of a study's views (study/report/views.h). */
#ifndef FR_CLI_VIEW_H
#define FR_CLI_VIEW_H

#include "cli/table.h"
#include "study/report/views.h"

/* A table with a view's headings. title: NULL for the view's own. Release it with fr_cli_table_destroy. */
fr_cli_table *fr_cli_view_table(const fr_view *view, const char *title);
/* Adds a row for each item; array may be NULL. */
void fr_cli_view_add(fr_cli_table *table, const fr_view *view, const cJSON *array);
/* Prints the whole table. */
void fr_cli_view_print(const fr_view *view, const char *title, const cJSON *array);

/* A text of a document; "" when there is none. */
const char *fr_cli_view_text(const cJSON *from, const char *path);

/* Whether prompts went through the chat template, to be put behind a line: "; no chat template"; "" where the document does not
 * say. text: [64], and what is returned. */
const char *fr_cli_view_template(const cJSON *document, char *text);

#endif
