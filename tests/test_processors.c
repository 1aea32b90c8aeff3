/* How many processors there are to use: affinity, cores, and what control groups leave of their time. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/processors.h"
#include "scratch.h"

static void put_number(const scratch *s, int processor, const char *name, int value) {
    char path[128], text[16];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", processor, name);
    snprintf(text, sizeof text, "%d\n", value);
    scratch_put(s, path, text);
}

static cpu_set_t *mask_of(int first, int last, size_t *bytes) {
    cpu_set_t *mask = CPU_ALLOC(4096);
    *bytes = CPU_ALLOC_SIZE(4096);
    CPU_ZERO_S(*bytes, mask);
    for (int i = first; i <= last; i++) CPU_SET_S((size_t)i, *bytes, mask);
    return mask;
}

/* 2048 processors: two packages of 512 cores with two hardware threads each, the second ones behind all first ones. */
static void more_than_1024_processors_are_counted(void **state) {
    (void)state;
    scratch s = scratch_create();
    static const struct {
        int first, last, cores;
    } cases[] = {{0, 2047, 1024}, {0, 1023, 1024}, {1024, 2047, 1024}, {1000, 1100, 101}, {0, 0, 1}, {2000, 2100, 101}};
    for (int i = 0; i < 2048; i++) {
        put_number(&s, i, "physical_package_id", i % 1024 / 512);
        put_number(&s, i, "core_id", i % 512);
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t bytes;
        cpu_set_t *mask = mask_of(cases[i].first, cases[i].last, &bytes);
        assert_int_equal(fr_cores_in_mask(s.dir, mask, bytes), cases[i].cores);
        CPU_FREE(mask);
    }
    scratch_remove_tree(&s);
}

static void the_affinity_mask_is_the_threads(void **state) {
    (void)state;
    size_t bytes, one_bytes;
    cpu_set_t *all = fr_affinity(&bytes);
    assert_non_null(all);
    assert_int_equal(fr_processors(), CPU_COUNT_S(bytes, all));
    assert_in_range(fr_physical_cores(), 1, fr_processors());
    assert_in_range(fr_default_threads(), 1, fr_physical_cores());
    int first = 0;
    while (!CPU_ISSET_S((size_t)first, bytes, all)) first++;
    cpu_set_t *one = mask_of(first, first, &one_bytes);
    assert_int_equal(sched_setaffinity(0, one_bytes, one), 0);
    assert_int_equal(fr_processors(), 1);
    assert_int_equal(fr_default_threads(), 1);
    assert_int_equal(sched_setaffinity(0, bytes, all), 0);
    CPU_FREE(one);
    CPU_FREE(all);
}

static void the_quota_is_the_tightest_of_all_groups_in_version_2(void **state) {
    (void)state;
    scratch s = scratch_create();
    assert_int_equal(fr_processor_quota(s.dir), INT_MAX); /* nothing is known */
    scratch_put(&s, "/proc/self/cgroup", "0::/outer/middle/inner\n");
    assert_int_equal(fr_processor_quota(s.dir), INT_MAX); /* groups without files */
    scratch_put(&s, "/sys/fs/cgroup/outer/middle/inner/cpu.max", "max 100000\n");
    assert_int_equal(fr_processor_quota(s.dir), INT_MAX);
    scratch_put(&s, "/sys/fs/cgroup/outer/cpu.max", "800000 100000\n");
    assert_int_equal(fr_processor_quota(s.dir), 8);
    scratch_put(&s, "/sys/fs/cgroup/outer/middle/cpu.max", "375000 50000\n");
    assert_int_equal(fr_processor_quota(s.dir), 7); /* whole processors */
    scratch_put(&s, "/sys/fs/cgroup/outer/middle/inner/cpu.max", "1200000 100000\n");
    assert_int_equal(fr_processor_quota(s.dir), 7);
    scratch_put(&s, "/sys/fs/cgroup/outer/middle/inner/cpu.max", "50000 100000\n");
    assert_int_equal(fr_processor_quota(s.dir), 1); /* half a one still has to do */
    scratch_remove_tree(&s);
}

static void the_quota_is_found_in_version_1(void **state) {
    (void)state;
    scratch s = scratch_create();
    scratch_put(&s, "/proc/self/cgroup", "7:memory:/m\n5:cpu,cpuacct:/docker/0123\n3:cpuset:/c\n0::/\n");
    scratch_put(&s, "/sys/fs/cgroup/memory/m/cpu.cfs_quota_us", "100000\n"); /* another hierarchy's */
    scratch_put(&s, "/sys/fs/cgroup/memory/m/cpu.cfs_period_us", "100000\n");
    assert_int_equal(fr_processor_quota(s.dir), INT_MAX);
    /* The container sees its group as the topmost, under the name of all controllers that share it. */
    scratch_put(&s, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    scratch_put(&s, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_int_equal(fr_processor_quota(s.dir), INT_MAX);
    scratch_put(&s, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "600000\n");
    assert_int_equal(fr_processor_quota(s.dir), 6);
    scratch_put(&s, "/sys/fs/cgroup/cpu/docker/0123/cpu.cfs_quota_us", "200000\n");
    scratch_put(&s, "/sys/fs/cgroup/cpu/docker/0123/cpu.cfs_period_us", "50000\n");
    assert_int_equal(fr_processor_quota(s.dir), 4);
    scratch_put(&s, "/sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us", "300000\n");
    scratch_put(&s, "/sys/fs/cgroup/cpu/docker/cpu.cfs_period_us", "100000\n");
    assert_int_equal(fr_processor_quota(s.dir), 3);
    scratch_remove_tree(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_than_1024_processors_are_counted),
        cmocka_unit_test(the_affinity_mask_is_the_threads),
        cmocka_unit_test(the_quota_is_the_tightest_of_all_groups_in_version_2),
        cmocka_unit_test(the_quota_is_found_in_version_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
