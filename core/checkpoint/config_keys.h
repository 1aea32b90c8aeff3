/* Keys of config.json, read with range checks, and what to say of those that are absent. Private to core/checkpoint/config*.c. */
#ifndef FR_CORE_CHECKPOINT_CONFIG_KEYS_H
#define FR_CORE_CHECKPOINT_CONFIG_KEYS_H

#include "core/json.h"
#include "core/notices.h"

/* Keys that were absent, with the values that were taken: "n_group 8, topk_group 4". */
typedef struct fr_assumed {
    char text[400];
    size_t length;
} fr_assumed;

/* An object of the file that is being read. */
typedef struct fr_keys {
    const cJSON *object;
    const char *where;   /* "DIR/config.json", or an object in it: "DIR/config.json: rope_scaling" */
    const char *file;    /* its name alone, for notices */
    fr_assumed *assumed; /* of the whole file */
    fr_notices *notices; /* NULL: nobody wants to know */
    fr_error *error;
} fr_keys;

/* The name of a path, without its folders. */
const char *fr_keys_file(const char *path);
/* DIR/NAME, allocated; NULL with *error set when there is no memory. Release with fr_free. */
char *fr_keys_path(const char *dir, const char *name, fr_error *error);
/* The object under a key, as keys of their own. `where` must outlive them. Fails when the key is there and no object, or when the
 * object has a key twice; out->object is NULL when the key is absent. */
fr_status fr_keys_inside(const fr_keys *k, const char *key, fr_place *where, fr_keys *out);

/* "FILE: KEY", for errors. */
fr_place fr_keys_place(const fr_keys *k, const char *key);
/* FR_ERROR_UNSUPPORTED: "only ONLY is supported, found ...". */
fr_status fr_keys_unsupported(const fr_keys *k, const char *key, const char *only);
/* For a key that may be absent, and otherwise must have the one value that forerun computes. */
fr_status fr_keys_only_string(const fr_keys *k, const char *key, const char *value);
fr_status fr_keys_only_bool(const fr_keys *k, const char *key, bool value);

fr_status fr_keys_need_int(const fr_keys *k, const char *key, int min, int max, int *out);
/* Keys that may be absent or null: *out keeps its value then. */
fr_status fr_keys_may_int(const fr_keys *k, const char *key, int min, int max, int *out);
fr_status fr_keys_may_float(const fr_keys *k, const char *key, double min, double max, float *out);
fr_status fr_keys_may_bool(const fr_keys *k, const char *key, bool *out);
/* The same for keys that change what is computed: when one is absent, its value is noticed as assumed. */
fr_status fr_keys_say_int(const fr_keys *k, const char *key, int min, int max, int *out);
fr_status fr_keys_say_float(const fr_keys *k, const char *key, double min, double max, float *out);
fr_status fr_keys_say_bool(const fr_keys *k, const char *key, bool *out);
void fr_keys_assume(const fr_keys *k, const char *key, const char *format, ...) FR_PRINTF(3, 4);

#endif
