#include "cli/table.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/message.h"
#include "cli/shown.h"

enum { MOST_COLUMNS = 24, CELL_BYTES = 6 * FR_CLI_TABLE_WIDEST };

typedef struct cell {
    char text[CELL_BYTES];
    bool is_bar;
    double low, high; /* of a bar, as parts of its whole length */
} cell;

struct fr_cli_table {
    char *title;
    cell headings[MOST_COLUMNS];
    fr_cli_align align[MOST_COLUMNS];
    int columns;
    cell *cells; /* row by row */
    size_t count, room;
};

/* How cells are drawn where the table goes. */
typedef struct style {
    bool colour, blocks;
} style;

/* ---- Text in columns -------------------------------------------------------------------------------------------- */

static int width_of(const char *text) {
    int width = 0, length;
    for (; *text; text += length) width += fr_cli_columns(text, &length);
    return width;
}

/* Copies what can be shown, at most FR_CLI_TABLE_WIDEST columns of it; "..." ends a text that was cut. */
static void set_text(cell *to, const char *text) {
    size_t at = 0, cut = 0; /* cut: where three columns are still free */
    int width = 0, length;
    memset(to, 0, sizeof *to);
    for (; *text; text += length) {
        int columns = fr_cli_columns(text, &length);
        const char *from = columns < 0 ? "?" : text;
        size_t bytes = columns < 0 ? 1 : (size_t)length;
        columns = columns < 0 ? 1 : columns;
        if (width + columns > FR_CLI_TABLE_WIDEST || at + bytes + 4 > sizeof to->text) {
            memcpy(to->text + cut, "...", 4);
            return;
        }
        if (width + columns <= FR_CLI_TABLE_WIDEST - 3) cut = at + bytes;
        memcpy(to->text + at, from, bytes);
        at += bytes;
        width += columns;
    }
    to->text[at] = '\0';
}

/* ---- Filling ---------------------------------------------------------------------------------------------------- */

fr_cli_table *fr_cli_table_create(const char *title) {
    fr_cli_table *table = fr_cli_alloc(1, sizeof *table);
    memset(table, 0, sizeof *table);
    if (title) {
        table->title = fr_cli_alloc(strlen(title) + 1, 1);
        memcpy(table->title, title, strlen(title) + 1);
    }
    return table;
}

void fr_cli_table_destroy(fr_cli_table *table) {
    if (!table) return;
    free(table->title);
    free(table->cells);
    free(table);
}

void fr_cli_table_column(fr_cli_table *table, const char *heading, fr_cli_align align) {
    if (table->columns == MOST_COLUMNS) return;
    set_text(&table->headings[table->columns], heading);
    table->align[table->columns++] = align;
}

static cell *next_cell(fr_cli_table *table) {
    if (table->count == table->room) {
        table->room = 2 * table->room + 64;
        table->cells = fr_cli_grow(table->cells, table->room, sizeof *table->cells);
    }
    return &table->cells[table->count++];
}

void fr_cli_table_cell(fr_cli_table *table, const char *format, ...) {
    char text[4 * CELL_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    set_text(next_cell(table), text);
}

void fr_cli_table_percent(fr_cli_table *table, double share) {
    if (isfinite(share))
        fr_cli_table_cell(table, "%.1f %%", 100 * share);
    else
        fr_cli_table_cell(table, "-");
}

void fr_cli_table_interval(fr_cli_table *table, double low, double high, double unit) {
    if (!isfinite(low) || !isfinite(high))
        fr_cli_table_cell(table, "-");
    else if (unit == 1)
        fr_cli_table_cell(table, "[%.3f, %.3f]", low, high);
    else
        fr_cli_table_cell(table, "[%.1f, %.1f]", 100 * low, 100 * high);
}

static double clamp(double part) {
    return part < 0 ? 0 : part > 1 ? 1 : part;
}

void fr_cli_table_bar(fr_cli_table *table, double value, double low, double high, double most) {
    cell *to = next_cell(table);
    memset(to, 0, sizeof *to);
    if (!isfinite(value) || !(most > 0)) return;
    bool interval = isfinite(low) && isfinite(high);
    to->is_bar = true;
    to->low = clamp((interval ? low : value) / most);
    to->high = clamp((interval ? high : value) / most);
}

/* ---- Printing --------------------------------------------------------------------------------------------------- */

static style style_for(FILE *out) {
    const char *locale = getenv("LC_ALL");
    if (!locale || !locale[0]) locale = getenv("LC_CTYPE");
    if (!locale || !locale[0]) locale = getenv("LANG");
    bool utf8 = locale && (strcasestr(locale, "utf-8") || strcasestr(locale, "utf8"));
    return (style){.colour = fr_cli_colour(out), .blocks = fr_cli_is_terminal(out) && utf8};
}

static void print_spaces(FILE *out, int count) {
    if (count > 0) fprintf(out, "%*s", count, "");
}

/* Every bar is FR_CLI_TABLE_BAR columns, so that bars of one table, and of two, can be compared. */
static void print_bar(FILE *out, const cell *bar, style s) {
    int low = (int)lround(bar->low * FR_CLI_TABLE_BAR), high = (int)lround(bar->high * FR_CLI_TABLE_BAR);
    if (s.colour) fputs("\033[36m", out);
    for (int i = 0; i < FR_CLI_TABLE_BAR; i++)
        fputs(i < low    ? s.blocks ? "\xE2\x96\x88" : "#"
              : i < high ? s.blocks ? "\xE2\x96\x92" : "="
              : s.blocks ? "\xC2\xB7"
                         : ".",
              out);
    if (s.colour) fputs("\033[0m", out);
}

static int column_width(const fr_cli_table *table, int column) {
    int width = width_of(table->headings[column].text);
    for (size_t i = (size_t)column; i < table->count; i += (size_t)table->columns) {
        int cell_width = table->cells[i].is_bar ? FR_CLI_TABLE_BAR : width_of(table->cells[i].text);
        if (cell_width > width) width = cell_width;
    }
    return width;
}

/* No blanks behind the last cell of a line. */
static void print_cell(const fr_cli_table *table, const cell *c, int column, int width, style s, FILE *out) {
    bool last = column + 1 == table->columns;
    int free_columns = width - (c->is_bar ? FR_CLI_TABLE_BAR : width_of(c->text));
    if (last && !c->is_bar && !c->text[0]) return;
    fputs("  ", out);
    if (table->align[column] == FR_ALIGN_RIGHT) print_spaces(out, free_columns);
    if (c->is_bar)
        print_bar(out, c, s);
    else
        fputs(c->text, out);
    if (table->align[column] == FR_ALIGN_LEFT && !last) print_spaces(out, free_columns);
}

void fr_cli_table_print(const fr_cli_table *table, FILE *out) {
    style s = style_for(out);
    int widths[MOST_COLUMNS];
    if (table->columns == 0) return;
    for (int j = 0; j < table->columns; j++) widths[j] = column_width(table, j);
    if (table->title) fprintf(out, "%s%s%s\n", s.colour ? "\033[1m" : "", table->title, s.colour ? "\033[0m" : "");
    if (s.colour) fputs("\033[2m", out);
    for (int j = 0; j < table->columns; j++) print_cell(table, &table->headings[j], j, widths[j], s, out);
    fputs(s.colour ? "\033[0m\n" : "\n", out);
    for (size_t i = 0; i < table->count; i++) {
        int column = (int)(i % (size_t)table->columns);
        print_cell(table, &table->cells[i], column, widths[column], s, out);
        if (column + 1 == table->columns || i + 1 == table->count) fputc('\n', out);
    }
}
