/* tokenizer.json: read, then a text goes there and back. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "fuzz.h"

static const char text[] =
    "Hello, world! 12345  \n\t caf\xc3\xa9 \xe6\xbc\xa2\xe5\xad\x97 <s>x</s> \xff\xfe aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa lower low";

FUZZ_TARGET(tokenizer) {
    fr_tokenizer *tokenizer;
    fr_error error;
    int32_t *tokens;
    size_t count, length;
    char *back;
    fuzz_write("tokenizer.json", data, size);
    if (!fuzz_worked(fr_tokenizer_load(fuzz_folder(), &tokenizer, &error), &error)) return 0;
    if (fuzz_worked(fr_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &tokens, &count, &error), &error)) {
        if (fuzz_worked(fr_tokenizer_decode(tokenizer, tokens, count, true, &back, &length, &error), &error)) fr_free(back);
        fr_free(tokens);
    }
    fr_tokenizer_destroy(tokenizer);
    return 0;
}
