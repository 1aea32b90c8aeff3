/* Reading whole files. What is read is NUL-terminated, which *length does not count, and released with fr_free. */
#ifndef FR_CORE_FILE_H
#define FR_CORE_FILE_H

#include "core/status.h"

/* A regular file of at most `limit` bytes. */
fr_status fr_read_file(const char *path, uint64_t limit, char **bytes, size_t *length, fr_error *error);
/* What a user names: a file of any kind and size, a pipe among them; "-" is standard input. Waits for whoever writes it. */
fr_status fr_read_input(const char *path, char **bytes, size_t *length, fr_error *error);

/* Whether there is a file of this name, or something else that is not to be passed over: a link that leads nowhere, say. */
bool fr_is_there(const char *path);
/* The error of a file that could not be opened, for the reason in errno. */
fr_status fr_fail_open(fr_error *error, const char *path);

/* Whether bytes are those of a git-lfs pointer, which stands for a file that was not fetched; *size is then that file's. */
bool fr_is_lfs_pointer(const char *bytes, size_t length, uint64_t *size);
/* The error of a file that is one, and its hint. */
fr_status fr_fail_lfs(fr_error *error, const char *where, uint64_t size);

/* The first line of a file of the system (/sys, /proc), without its line end, cut to fit. False when there is none. */
bool fr_read_line(const char *path, char *line, int size);

#endif
