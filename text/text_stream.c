#include "text/text_stream.h"

#include <string.h>

#include "core/memory.h"
#include "core/utf8.h"
#include "text/stop_strings.h"

struct fr_text_stream {
    const fr_tokenizer *tokenizer;
    uint8_t held[4]; /* an incomplete character, at most 3 bytes; the fourth is the one being pushed */
    size_t num_held;
    char *out; /* [room + what `stop` may hold]; room: a replacement for each held byte and each byte of the longest token, NUL */
    size_t room, length;
    fr_stop_strings *stop; /* NULL: none */
};

fr_status fr_text_stream_open(const fr_tokenizer *tokenizer, fr_text_stream **out, fr_error *error) {
    fr_text_stream *stream = fr_alloc_zeroed(1, sizeof *stream);
    if (stream) stream->room = 3 * (3 + fr_tokenizer_max_token_bytes(tokenizer)) + 1;
    if (stream) stream->out = fr_alloc(stream->room);
    if (!stream || !stream->out) {
        fr_text_stream_destroy(stream);
        return fr_fail(error, FR_ERROR_MEMORY, "no memory for a text stream");
    }
    stream->tokenizer = tokenizer;
    *out = stream;
    return FR_OK;
}

void fr_text_stream_destroy(fr_text_stream *stream) {
    if (!stream) return;
    fr_stop_strings_destroy(stream->stop);
    fr_free(stream->out);
    fr_free(stream);
}

fr_status fr_text_stream_stop_at(fr_text_stream *stream, const char *const *strings, size_t count, fr_error *error) {
    fr_stop_strings *stop;
    FR_TRY(fr_stop_strings_create(strings, count, &stop, error));
    char *out = fr_alloc(stream->room + fr_stop_strings_longest(stop));
    if (!out) {
        fr_stop_strings_destroy(stop);
        return fr_fail(error, FR_ERROR_MEMORY, "no memory for a text stream");
    }
    fr_free(stream->out);
    fr_stop_strings_destroy(stream->stop);
    stream->out = out;
    stream->stop = stop;
    return FR_OK;
}

bool fr_text_stream_stopped(const fr_text_stream *stream) {
    return stream->stop && fr_stop_strings_found(stream->stop);
}

static void append(fr_text_stream *stream, const void *bytes, size_t length) {
    if (!stream->stop) {
        memcpy(stream->out + stream->length, bytes, length);
        stream->length += length;
        return;
    }
    for (size_t i = 0; i < length; i++)
        stream->length += fr_stop_strings_push(stream->stop, ((const char *)bytes)[i], stream->out + stream->length);
}

static void push_byte(fr_text_stream *s, uint8_t byte) {
    s->held[s->num_held++] = byte;
    while (s->num_held) {
        int n = fr_utf8_next(s->held, s->num_held);
        if (n == 0) return;
        if (n > 0)
            append(s, s->held, (size_t)n);
        else
            append(s, FR_UTF8_REPLACEMENT, 3), n = -n;
        s->num_held -= (size_t)n;
        memmove(s->held, s->held + n, s->num_held);
    }
}

static const char *finish_text(fr_text_stream *stream, size_t *length) {
    stream->out[stream->length] = '\0';
    if (length) *length = stream->length;
    return stream->out;
}

const char *fr_text_stream_push(fr_text_stream *stream, int32_t token, size_t *length) {
    size_t n;
    const char *bytes = fr_tokenizer_token_bytes(stream->tokenizer, token, &n);
    stream->length = 0;
    if (bytes && !fr_tokenizer_is_special(stream->tokenizer, token))
        for (size_t i = 0; i < n; i++) push_byte(stream, (uint8_t)bytes[i]);
    return finish_text(stream, length);
}

const char *fr_text_stream_finish(fr_text_stream *stream, size_t *length) {
    stream->length = 0;
    if (stream->num_held) append(stream, FR_UTF8_REPLACEMENT, 3); /* one for an incomplete character */
    stream->num_held = 0;
    if (stream->stop) stream->length += fr_stop_strings_finish(stream->stop, stream->out + stream->length);
    return finish_text(stream, length);
}
