/* The pre_tokenizer of tokenizer.json: a chain of splits, each of which cuts the pieces of the one before. A piece is never
 * changed, so the pieces joined together are the text. */
#ifndef FR_TEXT_PRETOKENIZE_H
#define FR_TEXT_PRETOKENIZE_H

#include "core/json.h"
#include "text/regex.h"

#define FR_MAX_SPLITS 16

/* What a split does with its matches. (Hugging Face's "Removed" would lose text and is not supported.) */
typedef enum fr_split_behavior {
    FR_SPLIT_ISOLATED,             /* pieces of their own */
    FR_SPLIT_CONTIGUOUS,           /* adjacent matches are one piece */
    FR_SPLIT_MERGED_WITH_PREVIOUS, /* the first of adjacent matches joins the piece before it */
    FR_SPLIT_MERGED_WITH_NEXT,     /* the last of adjacent matches joins the piece after it */
} fr_split_behavior;

typedef struct fr_split_step {
    pcre2_code *code;
    fr_split_behavior behavior;
    bool invert; /* swaps matches and the text between them */
} fr_split_step;

/* Immutable once parsed: shared by any number of threads, each with its own scratch. */
typedef struct fr_pretokenizer {
    fr_split_step steps[FR_MAX_SPLITS];
    int count;
} fr_pretokenizer;

typedef struct fr_pretokenize_scratch {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
} fr_pretokenize_scratch;

/* json: the value of "pre_tokenizer", or NULL. It must end in ByteLevel. To be released after a failure, too. */
fr_status fr_pretokenizer_parse(fr_pretokenizer *pretokenizer, const cJSON *json, fr_error *error);
/* A single split, whose matches are the pieces. To be released after a failure, too. */
fr_status fr_pretokenizer_split(fr_pretokenizer *pretokenizer, const char *regex, fr_error *error);
void fr_pretokenizer_release(fr_pretokenizer *pretokenizer);

fr_status fr_pretokenize_scratch_create(fr_pretokenize_scratch *scratch, fr_error *error);
void fr_pretokenize_scratch_release(fr_pretokenize_scratch *scratch);

/* Receives the pieces in order; none is empty. An error ends the call. */
typedef fr_status (*fr_piece_fn)(void *user, const uint8_t *piece, size_t length, fr_error *error);

/* Cuts text [length]. It may be any bytes: each byte that is not UTF-8 is a piece of its own. */
fr_status fr_pretokenize(const fr_pretokenizer *pretokenizer, const fr_pretokenize_scratch *scratch, const uint8_t *text,
                         size_t length, fr_piece_fn fn, void *user, fr_error *error);

#endif
