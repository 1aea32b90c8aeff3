/* The texts that a study runs on. */
#ifndef FR_STUDY_PROMPTS_H
#define FR_STUDY_PROMPTS_H

#include "forerun.h"

typedef struct fr_prompt {
    char *id, *domain; /* never NULL: "1", "2", ... and "all" where the file gives none */
    int32_t *tokens;
    size_t count;   /* >= 1 */
    int max_tokens; /* 0: as the study's options say */
} fr_prompt;

typedef struct fr_prompts {
    fr_prompt *items;
    size_t count;
} fr_prompts;

/* Reads prompts and tokenizes them, special tokens as for fr_tokenize with add_special. A file whose first character
 * other than white space is '{' has one JSON object a line: {"prompt": TEXT or "tokens": [ids], optional "id",
 * "domain", "max_tokens"} ("text" serves where there is neither "prompt" nor "tokens"); other keys are ignored, empty
 * lines too. Any other file is one prompt: its text. chat: a text is put into the chat template as a user turn. Errors
 * name file and line; *out is then empty. Prompts of the same id, or of no tokens, are errors. */
fr_status fr_prompts_load(const fr_model *model, const char *path, bool chat, fr_prompts *out, fr_error *error);
/* One prompt made of tokens, copied; id "1", domain "all". */
fr_status fr_prompts_from_tokens(const fr_model *model, const int32_t *tokens, size_t count, fr_prompts *out, fr_error *error);
/* Fills in the max_tokens of each: what the prompt says, or else `most`, or else 128; but never above `most`, which is
 * 0 where the options do not limit texts. */
void fr_prompts_limit(fr_prompts *prompts, int most);
/* Whether a prompt is the first one of its domain. */
bool fr_prompt_opens_domain(const fr_prompts *prompts, size_t index);
void fr_prompts_release(fr_prompts *prompts);

#endif
