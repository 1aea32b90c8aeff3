/* forerun as a library: completes a prompt, drafting with the MTP module where that pays.
 *
 *   cc complete.c $(pkg-config --cflags --libs forerun) -o complete
 *   ./complete CHECKPOINT-DIR "Once upon a time"
 */
#include <forerun.h>
#include <stdio.h>
#include <string.h>

static int fail(const fr_error *error) {
    fprintf(stderr, "complete: %s%s%s\n", error->message, error->hint[0] ? "; " : "", error->hint);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: complete CHECKPOINT-DIR PROMPT\n"), 2;
    fr_error error;
    fr_model *model = NULL;
    fr_session *session = NULL;
    fr_text_stream *stream = NULL;
    int32_t *prompt = NULL;
    size_t count, length;
    int left = 100, result = 1;

    if (fr_model_open(argv[1], NULL, &model, &error) != FR_OK ||
        fr_session_create(model, &(fr_session_options){.drafting = FR_DRAFTING_AUTO}, &session, &error) != FR_OK ||
        fr_text_stream_create(model, &stream, &error) != FR_OK ||
        fr_tokenize(model, argv[2], strlen(argv[2]), true, &prompt, &count, &error) != FR_OK ||
        fr_session_prefill(session, prompt, count, &error) != FR_OK) {
        result = fail(&error);
        goto done;
    }
    for (fr_step step = {0}; left > 0 && !step.ended;) { /* one cycle: drafts, a verify pass, and the tokens that came of it */
        if (fr_session_step(session, left, &step, &error) != FR_OK) {
            result = fail(&error);
            goto done;
        }
        left -= step.count;
        for (int i = 0; i < step.count - step.ended; i++) { /* the token that ends the text is none of it */
            const char *text = fr_text_stream_push(stream, step.tokens[i], &length);
            fwrite(text, 1, length, stdout);
        }
        fflush(stdout);
    }
    fr_stats stats;
    fr_session_get_stats(session, &stats);
    printf("\n[%llu of %llu drafts accepted]\n", (unsigned long long)stats.num_accepted_tokens,
           (unsigned long long)stats.num_draft_tokens);
    result = 0;
done:
    fr_free(prompt);
    fr_text_stream_destroy(stream);
    fr_session_destroy(session);
    fr_model_destroy(model);
    return result;
}
