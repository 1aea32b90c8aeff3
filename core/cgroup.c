#include "core/cgroup.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"

bool fr_cgroup_line(const fr_cgroup *group, const char *name, char *line, int size) {
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", group->folder, name);
    return length > 0 && (size_t)length < sizeof path && fr_read_line(path, line, size);
}

uint64_t fr_cgroup_number(const fr_cgroup *group, const char *name, uint64_t missing) {
    char line[64];
    uint64_t value;
    return fr_cgroup_line(group, name, line, sizeof line) && sscanf(line, "%" SCNu64, &value) == 1 ? value : missing;
}

/* Whether `name` is among comma-separated names. */
static bool is_among(const char *names, const char *name) {
    size_t length = strlen(name);
    for (; *names; names += strcspn(names, ","), names += *names == ',')
        if (strcspn(names, ",") == length && strncmp(names, name, length) == 0) return true;
    return false;
}

/* Where a hierarchy is mounted: version 2 in one place, version 1 by its controller, or by all that share the hierarchy. */
static void find_mount(const char *root, const char *controller, const char *controllers, char *mount, size_t size) {
    struct stat is;
    snprintf(mount, size, "%s/sys/fs/cgroup%s%s", root, *controllers ? "/" : "", *controllers ? controller : "");
    if (*controllers && stat(mount, &is) != 0) snprintf(mount, size, "%s/sys/fs/cgroup/%s", root, controllers);
}

/* `folder` ends with the group's path, which begins at `top`. Cuts it up. */
static void visit_upwards(fr_cgroup *group, char *folder, size_t top, void (*visit)(const fr_cgroup *, void *), void *user) {
    for (size_t length = strlen(folder);;) {
        while (length > top && folder[length - 1] == '/') folder[--length] = 0;
        group->folder = folder;
        visit(group, user);
        if (length <= top) return;
        while (length > top && folder[length - 1] != '/') folder[--length] = 0;
    }
}

/* Lines "ID:CONTROLLERS:/GROUP"; version 2 has ID 0 and names no controllers. */
void fr_cgroup_each(const char *root, const char *controller, void (*visit)(const fr_cgroup *group, void *user), void *user) {
    char line[PATH_MAX], folder[2 * PATH_MAX];
    snprintf(line, sizeof line, "%s/proc/self/cgroup", root);
    FILE *file = fopen(line, "re");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path || path[1] != '/') continue;
        *controllers++ = 0;
        *path++ = 0;
        bool second = strcmp(line, "0") == 0 && !*controllers;
        if (!second && !is_among(controllers, controller)) continue;
        find_mount(root, controller, controllers, folder, sizeof folder);
        size_t top = strlen(folder);
        snprintf(folder + top, sizeof folder - top, "%s", path);
        visit_upwards(&(fr_cgroup){.version = second ? 2 : 1}, folder, top, visit, user);
    }
    if (file) fclose(file);
}
