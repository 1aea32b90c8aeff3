/* Edits the config.json of a checkpoint that will be written. Keys that forerun does not know are kept. */
#ifndef FR_MODEL_CONVERT_CONFIG_EDIT_H
#define FR_MODEL_CONVERT_CONFIG_EDIT_H

#include <cJSON.h>

#include "core/checkpoint/config.h"
#include "core/checkpoint/safetensors_writer.h"

/* Reads a config.json, or that of a directory. *out belongs to the caller: cJSON_Delete. */
fr_status fr_config_edit_load(const char *path, cJSON **out, fr_error *error);
/* Parses and checks the object as fr_config_parse does a file. `where` names it in messages. */
fr_status fr_config_edit_parse(const cJSON *json, const char *where, fr_config *out, fr_notices *notices, fr_error *error);

/* Sets a key to a number. */
/* num_hidden_layers, with the lists that have a word for each layer: they are cut, or their last word is repeated. */
fr_status fr_config_edit_layers(cJSON *json, int layers, fr_error *error);
fr_status fr_config_edit_number(cJSON *json, const char *key, double value, fr_error *error);
/* "key=value" with the value in JSON; "a.b=value" sets b in the object a. A key that the object lacks must be one that
 * forerun reads: a misspelt one is an error. */
fr_status fr_config_edit_assign(cJSON *json, const char *assignment, fr_error *error);
/* Adds the quantization_config of FP8 weights in 128x128 blocks, unless there is one, or removes it. */
fr_status fr_config_edit_fp8(cJSON *json, bool fp8, fr_error *error);

/* Writes the object as config.json. */
fr_status fr_config_edit_write(const cJSON *json, fr_writer *writer, fr_error *error);

#endif
