/* The texts that a study runs on. */
#ifndef FR_STUDY_PROMPTS_H
#define FR_STUDY_PROMPTS_H

#include "core/json_builder.h"
#include "forerun.h"

typedef struct fr_prompt {
    char *id, *domain; /* never NULL: "1", "2", ... and "all" where the file gives none */
    int32_t *tokens;
    size_t count;       /* >= 1 */
    int max_tokens;     /* 0: not given; see fr_prompts_limit */
    bool chat_template; /* the text was put into it */
} fr_prompt;

typedef struct fr_prompts {
    fr_prompt *items;
    size_t count;
} fr_prompts;

/* A line of a file of prompts: a JSON object {"prompt": TEXT or "tokens": [ids], optional "id", "domain", "max_tokens"}. "text"
 * serves where there is neither "prompt" nor "tokens"; other keys are ignored. What it points to lasts as long as the call. */
typedef struct fr_prompt_line {
    size_t number;      /* from 1, in the file */
    const cJSON *id;    /* a string or a number; NULL: none */
    const char *domain; /* NULL: none */
    const char *text;   /* [length], which may hold NUL; NULL: tokens are given */
    size_t length;
    const int32_t *tokens;
    size_t count;   /* of tokens, which are not held to any vocabulary */
    int max_tokens; /* 0: none */
} fr_prompt_line;

typedef fr_status (*fr_prompt_line_fn)(void *user, const fr_prompt_line *line, fr_error *error);

/* Hands each line to `fn`, but for blank ones. The message of an error, also of one from `fn`, begins with "NAME:LINE: ". */
fr_status fr_prompts_parse(const char *text, size_t length, const char *name, fr_prompt_line_fn fn, void *user, fr_error *error);

/* Tokenizes a text; with `chat` (else NULL) as a user turn in the model's chat format, up to where it is to answer (the text ends
 * at a NUL then). *length, of the text, becomes that of what was tokenized. *tokens is released with fr_free. */
fr_status fr_prompt_tokenize(const fr_model *model, const char *text, size_t *length, const fr_chat_options *chat,
                             bool add_special, int32_t **tokens, size_t *count, fr_error *error);

/* What a document says of it: chat_format and think, null without `chat`. */
void fr_add_chat_options(fr_json_builder *b, cJSON *to, const fr_model *model, const fr_chat_options *chat);

/* Reads prompts and tokenizes them, special tokens as for fr_tokenize with add_special. A file whose first character other than
 * white space is '{' has lines as above; any other file is one prompt: its text. chat: as for fr_prompt_tokenize. Errors name
 * file and line; *out is then empty. Prompts of the same id, or of no tokens, are errors. */
fr_status fr_prompts_load(const fr_model *model, const char *path, const fr_chat_options *chat, fr_prompts *out, fr_error *error);
/* One prompt made of tokens, copied; id "1", domain "all". */
fr_status fr_prompts_from_tokens(const fr_model *model, const int32_t *tokens, size_t count, fr_prompts *out, fr_error *error);
/* Sets the max_tokens of each prompt: its own, or else `most`, or else 128; never more than `most`, unless that is 0. */
void fr_prompts_limit(fr_prompts *prompts, int most);
/* Whether a prompt is the first one of its domain. */
bool fr_prompt_opens_domain(const fr_prompts *prompts, size_t index);
void fr_prompts_release(fr_prompts *prompts);

#endif
