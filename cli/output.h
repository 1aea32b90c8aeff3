/* What the commands' JSON documents share, and the memory plan as a line. */
#ifndef FR_CLI_OUTPUT_H
#define FR_CLI_OUTPUT_H

#include "core/json_builder.h"

/* Begins the one JSON document of a command. */
void fr_cli_json_begin(fr_json_builder *b);
/* Adds `notices`, prints it and its newline on stdout and releases it; where memory ran out, ends the program with a message. */
void fr_cli_json_print(fr_json_builder *b);

/* The object `memory`. session may be NULL. */
void fr_cli_add_memory(fr_json_builder *b, cJSON *to, const fr_model_info *info, const fr_session *session);
/* The part of it that is known beforehand; fits: whether there is enough for what is not mapped. */
void fr_cli_add_plan(fr_json_builder *b, cJSON *to, const char *key, const fr_memory_plan *plan, bool fits);
/* A plan in a line: "weights 14.84 MiB mapped, KV 8.25 MiB for 4,096 tokens, ...". */
void fr_cli_plan_text(const fr_memory_plan *plan, char *text, size_t size);
/* What streamed weights are to be expected to do: "17.9 GiB of weights in memory, 912 of 15,104 experts (38 GiB) cached; ...". */
void fr_cli_stream_text(const fr_memory_plan *plan, char *text, size_t size);
/* What they did: "71.2 % were cached, 12.3 GiB read at 1.02 GB/s, waited 3.40 s for them". */
void fr_cli_experts_text(const fr_stats *stats, char *text, size_t size);

#endif
