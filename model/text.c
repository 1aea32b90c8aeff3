/* The text functions of forerun.h: a model's tokenizer, or an error that says that it has none. */
#include "model/weights.h"
#include "text/chat_format.h"
#include "text/chat_template.h"
#include "text/text_stream.h"

static fr_status need_tokenizer(const fr_model *model, fr_error *error) {
    if (model->tokenizer) return FR_OK;
    if (error) *error = model->no_text;
    return model->no_text.status;
}

fr_status fr_tokenize(const fr_model *model, const char *text, size_t length, bool add_special, int32_t **tokens, size_t *count,
                      fr_error *error) {
    FR_TRY(need_tokenizer(model, error));
    return fr_tokenizer_encode(model->tokenizer, text, length, add_special, tokens, count, error);
}

fr_status fr_detokenize(const fr_model *model, const int32_t *tokens, size_t count, bool with_special, char **text,
                        size_t *length, fr_error *error) {
    FR_TRY(need_tokenizer(model, error));
    return fr_tokenizer_decode(model->tokenizer, tokens, count, with_special, text, length, error);
}

const char *fr_token_bytes(const fr_model *model, int32_t token, size_t *length) {
    *length = 0;
    return model->tokenizer ? fr_tokenizer_token_bytes(model->tokenizer, token, length) : NULL;
}

bool fr_token_is_special(const fr_model *model, int32_t token) {
    return model->tokenizer && fr_tokenizer_is_special(model->tokenizer, token);
}

bool fr_token_ends_text(const fr_model *model, int32_t token) {
    const fr_config *c = &model->config;
    for (int i = 0; i < c->num_eos_token_ids; i++)
        if (c->eos_token_ids[i] == token) return true;
    return model->tokenizer && fr_chat_ends(model->tokenizer, token);
}

const char *fr_chat_format_name(int i) {
    const fr_chat_format *format = fr_chat_format_at(i);
    return format ? format->name : NULL;
}

fr_status fr_render_chat(const fr_model *model, const fr_chat_turn *turns, size_t count, const fr_chat_options *options,
                         char **text, fr_error *error) {
    static const fr_chat_options none;
    FR_TRY(need_tokenizer(model, error));
    return fr_chat_render(model->tokenizer, turns, count, options ? options : &none, text, error);
}

fr_status fr_tokenize_chat(const fr_model *model, const fr_chat_turn *turns, size_t count, const fr_chat_options *options,
                           int32_t **tokens, size_t *num_tokens, fr_error *error) {
    static const fr_chat_options none;
    FR_TRY(need_tokenizer(model, error));
    return fr_chat_encode(model->tokenizer, turns, count, options ? options : &none, tokens, num_tokens, error);
}

fr_status fr_text_stream_create(const fr_model *model, fr_text_stream **out, fr_error *error) {
    FR_TRY(need_tokenizer(model, error));
    return fr_text_stream_open(model->tokenizer, out, error);
}
