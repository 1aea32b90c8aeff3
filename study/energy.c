#include "study/energy.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"

static bool read_line(const char *zone, const char *name, char *line, int size) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", zone, name);
    return fr_read_line(path, line, size);
}

static bool read_counter(const char *zone, const char *name, uint64_t *out) {
    char line[32];
    return read_line(zone, name, line, sizeof line) && sscanf(line, "%" SCNu64, out) == 1;
}

/* Whether a zone is one of those that make up the whole. The same package under intel-rapl-mmio would count twice. */
static bool is_wanted(const char *entry, const char *zone) {
    char name[64];
    if (strncmp(entry, "intel-rapl:", 11) != 0 || !read_line(zone, "name", name, sizeof name)) return false;
    return strncmp(name, "package", 7) == 0 || strcmp(name, "dram") == 0;
}

void fr_energy_open(fr_energy *energy, const char *root) {
    DIR *dir = opendir(root);
    bool readable = true;
    memset(energy, 0, sizeof *energy);
    if (!dir) return;
    for (struct dirent *entry; readable && (entry = readdir(dir)) && energy->num_zones < FR_ENERGY_MOST_ZONES;) {
        char zone[sizeof energy->zones[0].path];
        int i = energy->num_zones, length = snprintf(zone, sizeof zone, "%s/%s", root, entry->d_name);
        if (length >= (int)sizeof zone || !is_wanted(entry->d_name, zone)) continue;
        memcpy(energy->zones[i].path, zone, (size_t)length + 1);
        readable = read_counter(zone, "energy_uj", &energy->zones[i].last) &&
                   read_counter(zone, "max_energy_range_uj", &energy->zones[i].range);
        energy->num_zones++;
    }
    closedir(dir);
    if (!readable) energy->num_zones = 0;
}

double fr_energy_read(fr_energy *energy) {
    for (int i = 0; i < energy->num_zones; i++) {
        uint64_t now, last = energy->zones[i].last;
        if (!read_counter(energy->zones[i].path, "energy_uj", &now)) return NAN;
        energy->joules += 1e-6 * (double)(now >= last ? now - last : now + energy->zones[i].range - last);
        energy->zones[i].last = now;
    }
    return energy->num_zones > 0 ? energy->joules : NAN;
}
