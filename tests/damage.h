/* Damage to a copy of a checkpoint. After the test's includes, since it needs cmocka's. */
#ifndef TESTS_DAMAGE_H
#define TESTS_DAMAGE_H

#include <dirent.h>

#include "core/checkpoint/safetensors.h"
#include "scratch.h"

/* The file of a tensor, and the offset of its data there; the name is valid until the next call. */
static inline const char *damage_find(const scratch *s, const char *tensor, long *offset) {
    static char name[256];
    DIR *dir = opendir(s->dir);
    assert_non_null(dir);
    *offset = -1;
    for (struct dirent *entry; *offset < 0 && (entry = readdir(dir));) {
        fr_safetensors st;
        if (!strstr(entry->d_name, ".safetensors") || strstr(entry->d_name, ".json")) continue;
        snprintf(name, sizeof name, "%s", entry->d_name);
        assert_int_equal(fr_safetensors_open(s->dir, name, 0, NULL, NULL, &st, NULL), FR_OK);
        for (size_t i = 0; i < st.count; i++)
            if (strcmp(st.tensors[i].name, tensor) == 0) *offset = (const char *)st.tensors[i].data - (const char *)st.map;
        fr_safetensors_release(&st);
    }
    closedir(dir);
    if (*offset < 0) fail_msg("no tensor %s", tensor);
    return name;
}

/* Overwrites bytes of a tensor's data, `at` bytes into it. */
static inline void damage(const scratch *s, const char *tensor, size_t at, const void *bytes, size_t count) {
    long offset;
    FILE *file = fopen(scratch_path(s, damage_find(s, tensor, &offset)), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset + (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    fclose(file);
}

/* Ends the tensor's file where its data begin, as a program does that copies over it. */
static inline void cut_at(const scratch *s, const char *tensor) {
    long offset;
    const char *path = scratch_path(s, damage_find(s, tensor, &offset));
    assert_int_equal(truncate(path, offset), 0);
}

#endif
