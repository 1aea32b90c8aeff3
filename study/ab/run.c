#include "study/ab/run.h"

#include "core/memory.h"

bool fr_ab_turn_is_whole(const fr_ab_run *run, size_t prompt, int repeat) {
    for (int c = 0; c < run->num_columns; c++)
        if (!fr_ab_text_at(run, prompt, repeat, c)->whole) return false;
    return true;
}

bool fr_ab_promises_identity(const fr_ab_options *o) {
    return o->session.sampling.verify == FR_VERIFY_COUPLED || o->session.sampling.temperature <= 0.0f;
}

fr_status fr_ab_text_create(fr_ab_text *text, int most, fr_error *error) {
    size_t n = (size_t)most;
    *text = (fr_ab_text){.tokens = fr_alloc(n * sizeof *text->tokens),
                         .token_s = fr_alloc(n * sizeof *text->token_s),
                         .cycle_s = fr_alloc(n * sizeof *text->cycle_s)};
    if (text->tokens && text->token_s && text->cycle_s) return FR_OK;
    fr_ab_text_release(text);
    return fr_fail(error, FR_ERROR_MEMORY, "ab: not enough for the texts");
}

void fr_ab_text_release(fr_ab_text *text) {
    fr_free(text->tokens);
    fr_free(text->token_s);
    fr_free(text->cycle_s);
    *text = (fr_ab_text){0};
}
