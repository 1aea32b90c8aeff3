/* Chat formats: how the models of the family write a conversation as text. One table has a row for each; a checkpoint's own
 * template, which is a program, is not run, but recognised.
 *
 *   BEGIN (BEFORE content AFTER)... BEFORE-ASSISTANT REPLY
 *
 * An answer of an earlier turn is written without its reasoning where the template does so. */
#ifndef FR_TEXT_CHAT_FORMAT_H
#define FR_TEXT_CHAT_FORMAT_H

#include <stdint.h>

#include "forerun.h"

enum { FR_CHAT_MAX_TOKENS = 6, FR_CHAT_MAX_MARKS = 4 };

typedef enum fr_chat_thinking { FR_CHAT_THINKS_NEVER = 0, FR_CHAT_THINKS_ALWAYS, FR_CHAT_THINKS_OR_NOT } fr_chat_thinking;
/* Which part of an earlier answer is its reasoning: none, what is before the first </think>, or before the last. */
typedef enum fr_chat_drop { FR_CHAT_KEEPS_ALL = 0, FR_CHAT_DROPS_TO_FIRST, FR_CHAT_DROPS_TO_LAST } fr_chat_drop;

typedef struct fr_chat_format {
    const char *name;
    /* A template is of this format if it has all these texts and none of those; and its plain turns were compared with this row
     * if fr_hash64 of its text, without white space at the ends and carriage returns, is one of the digests. */
    const char *has[FR_CHAT_MAX_MARKS], *lacks[FR_CHAT_MAX_MARKS];
    uint64_t digests[FR_CHAT_MAX_MARKS];
    const char *model_type; /* taken for a checkpoint of this type that has the tokens but no template; NULL: never */

    bool bos;
    const char *begin;
    const char *begin_thinking; /* after `begin` with thinking on; NULL: nothing */
    const char *default_system; /* instead of a system turn, where the first turn is none */
    /* A text that the template has between these two is a first turn: with this before it, and system's AFTER behind it. */
    const char *preamble_from, *preamble_to, *preamble_role;
    bool system_first; /* system turns are moved to the front, with a blank line between */
    struct {           /* by fr_chat_role */
        const char *before, *after;
    } turns[3];
    const char *reply, *reply_thinking, *history; /* before an answer: to be made, with thinking, and of an earlier turn */
    fr_chat_thinking thinking;
    bool thinks_by_default; /* where it may or may not */
    fr_chat_drop drops;
    bool strips;                            /* white space around an earlier answer is left out */
    const char *tokens[FR_CHAT_MAX_TOKENS]; /* that the tokenizer must have */
    const char *ends[FR_CHAT_MAX_TOKENS];   /* those that end an answer */
} fr_chat_format;

/* Rows of the table; NULL after the last. */
const fr_chat_format *fr_chat_format_at(int i);

/* What is known of a checkpoint's chat format. Valid when zeroed. */
typedef struct fr_chat {
    const fr_chat_format *format; /* NULL: none, or none that is known */
    bool has_template;
    char *preamble; /* NULL: none; the owner's to free */
} fr_chat;

#endif
