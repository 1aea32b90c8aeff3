/* tiktoken.model, beside the tokenizer_config.json that names its special tokens. */
#include <string.h>

#include "core/memory.h"
#include "fuzz.h"
#include "text/tokenizer.h"

static const char config[] =
    "{\"tokenizer_class\": \"TikTokenTokenizer\", \"added_tokens_decoder\": {\"256\": {\"content\": \"[BOS]\", "
    "\"special\": true}, \"263\": {\"content\": \"[EOS]\", \"special\": false}}}";

FUZZ_TARGET(tiktoken) {
    static const char text[] =
        "Hello, world! 123 \xe6\xbc\xa2\xe5\xad\x97 [BOS] \xff aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    fr_tokenizer *tokenizer;
    fr_error error;
    int32_t *tokens;
    size_t count;
    fuzz_write("tokenizer_config.json", config, sizeof config - 1);
    fuzz_write("tiktoken.model", data, size);
    if (!fuzz_worked(fr_tokenizer_load(fuzz_folder(), &tokenizer, &error), &error)) return 0;
    if (fuzz_worked(fr_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &tokens, &count, &error), &error))
        fr_free(tokens);
    fr_tokenizer_destroy(tokenizer);
    return 0;
}
