#include "cli/access.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/message.h"
#include "cli/ranks.h"

int fr_cli_check_readable(const char *path) {
    int reason = fr_cli_share(access(path, R_OK) == 0 ? 0 : errno);
    return reason ? fr_cli_error(FR_EXIT_FAILED, "%s: cannot read: %s", path, strerror(reason)) : 0;
}

int fr_cli_check_writable(const char *path) {
    const char *slash = path ? strrchr(path, '/') : NULL;
    size_t length = !slash ? 1 : slash == path ? 1 : (size_t)(slash - path);
    bool there = path && access(path, F_OK) == 0;
    char *folder = strndup(slash ? path : ".", length);
    int reason = path && access(there || !folder ? path : folder, W_OK) != 0 ? errno : 0;
    free(folder);
    reason = fr_cli_share(reason);
    return reason ? fr_cli_error(FR_EXIT_FAILED, "%s: cannot write: %s", path, strerror(reason)) : 0;
}
