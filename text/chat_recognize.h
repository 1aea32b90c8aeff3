/* Which chat format a checkpoint has. */
#ifndef FR_TEXT_CHAT_RECOGNIZE_H
#define FR_TEXT_CHAT_RECOGNIZE_H

#include "core/notices.h"
#include "text/chat_format.h"
#include "text/tokenizer.h"

/* Recognises `text`, a checkpoint's template, or NULL if it has none: a model of that type may then have a format. A format by
 * name takes the place of what is recognised; one that is not in the table is FR_ERROR_ARGUMENT. What was assumed, and a
 * template that is not known, are notices. */
fr_status fr_chat_recognize(fr_chat *chat, const fr_tokenizer *tokenizer, const char *text, const char *model_type,
                            const char *name, fr_notices *notices, fr_error *error);

#endif
