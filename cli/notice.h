/* Notices of a command: each is a line on stderr and an entry of `notices` in its JSON document. */
#ifndef FR_CLI_NOTICE_H
#define FR_CLI_NOTICE_H

#include "core/json_builder.h"

/* Prints a notice, unless --quiet was given or it was printed before, and keeps it for the document. */
void fr_cli_notice(const fr_notice *notice);
void fr_cli_notices(const fr_notice *notices, size_t count);
/* An fr_notice_fn; `user` is not used. */
void fr_cli_take_notice(void *user, const fr_notice *notice);
/* Adds those that were kept to a document. */
void fr_cli_add_notices(fr_json_builder *b, cJSON *to);

#endif
