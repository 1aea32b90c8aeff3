/* tokenizer_config.json, or chat_template.jinja (what does not begin with a brace), beside a whole tokenizer.json: beginning and
 * end of a text, and which chat format it is. */
#include "core/memory.h"
#include "fuzz.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

static void render(const fr_tokenizer *tokenizer) {
    static const fr_chat_turn turns[] = {
        {FR_CHAT_SYSTEM, "Be kind."}, {FR_CHAT_USER, "Hi"}, {FR_CHAT_ASSISTANT, "<think>x</think>Yes"}, {FR_CHAT_USER, "<s>"}};
    fr_chat_options options = {.reply = true};
    fr_error error;
    char *text;
    if (fuzz_worked(fr_chat_render(tokenizer, turns, 4, &options, &text, &error), &error)) fr_free(text);
}

FUZZ_TARGET(tokenizer_config) {
    static int copied;
    fr_tokenizer *tokenizer;
    fr_error error;
    fr_notices notices = {0};
    if (!copied++) fuzz_copy("tokenizer.json", "golden/pico-glm5/tokenizer.json");
    int template = size > 0 && data[0] != '{';
    fuzz_write("tokenizer_config.json", template ? "{}" : (const void *)data, template ? 2 : size);
    fuzz_write("chat_template.jinja", data, template ? size : 0);
    if (!fuzz_worked(fr_tokenizer_load(fuzz_folder(), &tokenizer, &error), &error)) return 0;
    if (fuzz_worked(fr_tokenizer_load_chat(tokenizer, fuzz_folder(), NULL, &notices, &error), &error)) render(tokenizer);
    fr_tokenizer_destroy(tokenizer);
    return 0;
}
