/* What memory there is, what is planned, what is refused, and that it makes no difference where weights are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/available.h"
#include "core/checkpoint/checkpoint.h"
#include "core/kernels/isa.h"
#include "driver.h"
#include "forerun_checkpoint.h"
#include "goldens.h"
#include "scratch.h"

#define MIB ((uint64_t)1 << 20)

/* ---- What there is ---------------------------------------------------------------------------------------------- */

static void available_is_what_the_system_and_its_groups_leave(void **state) {
    (void)state;
    scratch s = scratch_create();
    assert_int_equal(fr_available_memory(s.dir), 0); /* nothing is known */
    scratch_put(&s, "/proc/meminfo", "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable:    4096 kB\nBuffers: 1 kB\n");
    assert_int_equal(fr_available_memory(s.dir), 4 * MIB);

    /* Version 2: the tightest of the group and those above it, of limit and high mark; page cache counts as free. */
    scratch_put(&s, "/proc/self/cgroup", "0::/outer/inner\n");
    assert_int_equal(fr_available_memory(s.dir), 4 * MIB); /* a group without files says nothing */
    scratch_put(&s, "/sys/fs/cgroup/outer/inner/memory.max", "max\n");
    scratch_put(&s, "/sys/fs/cgroup/outer/inner/memory.current", "700000\n");
    assert_int_equal(fr_available_memory(s.dir), 4 * MIB);
    scratch_put(&s, "/sys/fs/cgroup/outer/memory.max", "3000000\n");
    scratch_put(&s, "/sys/fs/cgroup/outer/memory.current", "1000000\n");
    assert_int_equal(fr_available_memory(s.dir), 2000000);
    scratch_put(&s, "/sys/fs/cgroup/outer/memory.stat", "anon 400000\nfile 600000\ninactive_file 100000\nactive_file 200000\n");
    assert_int_equal(fr_available_memory(s.dir), 2300000);
    scratch_put(&s, "/sys/fs/cgroup/outer/inner/memory.high", "1000000\n");
    assert_int_equal(fr_available_memory(s.dir), 300000);
    scratch_put(&s, "/sys/fs/cgroup/outer/inner/memory.current", "1700000\n");
    assert_int_equal(fr_available_memory(s.dir), 1); /* over its mark: nothing is left, which is not "unknown" */

    /* Version 1 beside an empty version 2, by a name that the container does not see: the mount itself counts. */
    scratch_put(&s, "/proc/self/cgroup", "7:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/0123\n0::/\n");
    scratch_put(&s, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    scratch_put(&s, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "5000000\n");
    assert_int_equal(fr_available_memory(s.dir), 4 * MIB);
    scratch_put(&s, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "6000000\n");
    scratch_put(&s, "/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 50\ntotal_active_file 7\n");
    assert_int_equal(fr_available_memory(s.dir), 1000057);
    scratch_put(&s, "/proc/self/cgroup", "7:cpu,cpuacct:/x\n4:memory_pressure:/\n");
    assert_int_equal(fr_available_memory(s.dir), 4 * MIB); /* another controller's group is none of ours */
    scratch_remove_tree(&s);
}

static void this_machine_has_memory(void **state) {
    (void)state;
    assert_true(fr_available_memory("") > MIB);
}

/* ---- The plan ---------------------------------------------------------------------------------------------------- */

/* The fixture's directory, in a static buffer. */
static const char *dir_of(const char *name) {
    static char dir[512];
    golden_model_dir(name, dir, sizeof dir);
    return dir;
}

static fr_model *open_model(const char *name, fr_model_options o) {
    fr_error error;
    fr_model *model = NULL;
    o.threads = 2;
    if (fr_model_open(dir_of(name), &o, &model, &error) != FR_OK) fail_msg("%s: %s", name, error.message);
    return model;
}

static void the_plan_is_what_is_taken(void **state) {
    (void)state;
    static const fr_logit_bias biases[] = {{1, 2.0f}, {3, -1.0f}, {5, 0.5f}};
    static const fr_session_options sessions[] = {
        {.drafting = FR_DRAFTING_AUTO, .sampling = {.temperature = 1.0f, .logit_bias = biases, .num_logit_bias = 3}},
        {.drafting = FR_DRAFTING_OFF},
        {.ctx = 100, .kv = FR_KV_F32, .drafting = FR_DRAFTING_ON},
        {.ctx = 20, .prefill_chunk = 3, .drafting = FR_DRAFTING_ON, .drafter = FR_DRAFTER_NGRAM},
        {.ctx = 300, .sampling = {.temperature = 1.0f, .top_p = 0.9f, .verify = FR_VERIFY_REJECTION}},
    };
    static const char *const names[] = {"pico-mtp-s1", "pico-noqlora-s1", "pico-v32"};
    for (size_t i = 0; i < 3 * sizeof sessions / sizeof *sessions; i++) {
        fr_memory_plan plan;
        fr_memory memory;
        fr_model_info info;
        fr_inspection *inspection = NULL;
        const fr_session_options *options = &sessions[i / 3];
        fr_model_options wanted = {.session = options, .draft_head = FR_DRAFT_HEAD_FP8, .threads = 2};
        fr_model *model = open_model(names[i % 3], wanted);
        fr_session *session = driver_session(model, options);
        fr_model_get_info(model, &info);
        fr_session_get_memory(session, &memory);
        assert_memory_equal(&info.plan.session, &memory, sizeof memory);
        assert_int_equal(info.plan.ctx, fr_session_ctx(session));
        assert_int_equal(info.plan.weights, FR_WEIGHTS_MMAP);
        assert_int_equal(info.plan.draft_head_bytes, info.private_bytes);
        assert_true(info.plan.draft_head_bytes > 0);
        assert_int_equal(info.plan.private_bytes, memory.kv_bytes + memory.mtp_kv_bytes + memory.workspace_bytes +
                                                      info.plan.draft_head_bytes + info.plan.table_bytes);
        assert_int_equal(info.plan.total_bytes, info.plan.private_bytes + info.plan.weight_bytes);
        assert_true(info.plan.all_fits);

        /* Without opening the model: the same, but for what is free by now. */
        assert_int_equal(fr_inspect(dir_of(names[i % 3]), &inspection, NULL), FR_OK);
        assert_int_equal(fr_plan_memory(inspection, &wanted, options, &plan, NULL), FR_OK);
        assert_int_equal(plan.weights, info.plan.weights);
        assert_int_equal(plan.weight_bytes, info.plan.weight_bytes);
        assert_int_equal(plan.table_bytes, info.plan.table_bytes);
        assert_int_equal(plan.draft_head_bytes, info.plan.draft_head_bytes);
        assert_int_equal(plan.ctx, info.plan.ctx);
        assert_memory_equal(&plan.session, &info.plan.session, sizeof plan.session);
        assert_int_equal(plan.private_bytes, info.plan.private_bytes);
        assert_int_equal(plan.total_bytes, info.plan.total_bytes);
        assert_int_equal(plan.all_fits, info.plan.all_fits);
        fr_inspection_destroy(inspection);
        fr_session_destroy(session);
        fr_model_destroy(model);
    }
}

/* Of the published network, whose head in BF16 is 1.7 GiB of the 2.5 that a draft reads. */
static void drafts_get_a_copy_of_the_head_where_it_pays_and_fits(void **state) {
    (void)state;
    fr_inspection *inspection = NULL;
    fr_memory_plan plan, without;
    fr_session_options drafting = {.ctx = 1000}, off = {.ctx = 1000, .drafting = FR_DRAFTING_OFF},
                       ngram = {.ctx = 1000, .drafter = FR_DRAFTER_NGRAM};
    fr_model_options options = {.threads = 4, .memory_limit = 800000 * MIB}, exact = options;
    exact.draft_head = FR_DRAFT_HEAD_EXACT;
    assert_int_equal(fr_inspect(FR_TEST_DIR "/golden/deepseek-v3-config.json", &inspection, NULL), FR_OK);
    assert_int_equal(fr_plan_memory(inspection, &exact, &drafting, &without, NULL), FR_OK);
    assert_int_equal(without.draft_head_bytes, 0);
    assert_int_equal(fr_plan_memory(inspection, &options, &drafting, &plan, NULL), FR_OK);
    assert_int_equal(plan.draft_head_bytes, 129280ull * 7168 + 4 * 1010 * 56);
    assert_int_equal(plan.private_bytes, without.private_bytes + plan.draft_head_bytes);
    assert_int_equal(plan.total_bytes, without.total_bytes + plan.draft_head_bytes);
    assert_int_equal(fr_plan_memory(inspection, &options, &off, &plan, NULL), FR_OK);
    assert_int_equal(plan.draft_head_bytes, 0);
    assert_int_equal(fr_plan_memory(inspection, &options, &ngram, &plan, NULL), FR_OK);
    assert_int_equal(plan.draft_head_bytes, 0);
    options.memory_limit = without.total_bytes + 129280ull * 7168; /* a little less than the copy takes */
    assert_int_equal(fr_plan_memory(inspection, &options, &drafting, &plan, NULL), FR_OK);
    assert_int_equal(plan.draft_head_bytes, 0);
    assert_true(plan.all_fits);
    fr_inspection_destroy(inspection);

    options.memory_limit = 0; /* a head that caches hold */
    assert_int_equal(fr_inspect(dir_of("pico-mtp-s1"), &inspection, NULL), FR_OK);
    assert_int_equal(fr_plan_memory(inspection, &options, &drafting, &plan, NULL), FR_OK);
    assert_int_equal(plan.draft_head_bytes, 0);
    fr_inspection_destroy(inspection);
}

/* The published network from its config alone, in numbers that can be had otherwise. */
/* DeepSeek-V3, with any instruction set. */
static void hundreds_of_threads_need_little_memory(void **state) {
    (void)state;
    fr_inspection *inspection = NULL;
    const fr_session_options session = {.drafting = FR_DRAFTING_ON};
    assert_int_equal(fr_inspect(FR_TEST_DIR "/golden/deepseek-v3-config.json", &inspection, NULL), FR_OK);
    for (fr_isa isa = FR_ISA_SCALAR; isa < FR_ISA_COUNT; isa++) {
        uint64_t bytes[2];
        for (int many = 0; many < 2 && fr_isa_available(isa); many++) {
            fr_memory_plan plan;
            fr_model_options options = {.isa = isa, .threads = many ? 192 : 64, .memory_limit = 800000 * MIB};
            assert_int_equal(fr_plan_memory(inspection, &options, &session, &plan, NULL), FR_OK);
            bytes[many] = plan.session.workspace_bytes;
        }
        if (!fr_isa_available(isa)) continue;
        assert_in_range(bytes[1], 1, 2048 * MIB);
        assert_in_range(bytes[1] - bytes[0], 0, (192 - 64) * 5 * MIB);
    }
    fr_inspection_destroy(inspection);
}

static void a_config_alone_is_planned(void **state) {
    (void)state;
    fr_inspection *inspection = NULL;
    fr_memory_plan plan;
    fr_error error;
    fr_session_options session = {.ctx = 1000};
    fr_model_options options = {.threads = 4, .draft_head = FR_DRAFT_HEAD_FP8, .memory_limit = 800000 * MIB};
    assert_int_equal(fr_inspect(FR_TEST_DIR "/golden/deepseek-v3-config.json", &inspection, NULL), FR_OK);
    const fr_parameters *p = fr_inspection_parameters(inspection);
    assert_int_equal(fr_plan_memory(inspection, &options, &session, &plan, &error), FR_OK);
    assert_int_equal(plan.session.kv_bytes, 1000 * p->kv_bytes_per_token_bf16);
    assert_int_equal(plan.session.mtp_kv_bytes, 1000 * p->mtp_kv_bytes_per_token_bf16);
    assert_int_equal(plan.draft_head_bytes, 129280ull * 7168 + 4 * 1010 * 56);
    uint64_t copies = 2 * 2 * 129280ull * 7168;                             /* the module's own embedding and head are not used */
    assert_in_range(p->fp8_bytes - copies - plan.weight_bytes, 1, 4 * MIB); /* nor are norms, as they lie there */
    assert_in_range(plan.table_bytes, 4 * MIB, 64 * MIB);
    assert_true(plan.all_fits);

    options.memory_limit = 64000 * MIB; /* runs from the disk, but cannot be copied */
    assert_int_equal(fr_plan_memory(inspection, &options, &session, &plan, &error), FR_OK);
    assert_false(plan.all_fits);
    options.weights = FR_WEIGHTS_COPY;
    assert_int_equal(fr_plan_memory(inspection, &options, &session, &plan, &error), FR_ERROR_MEMORY);
    assert_int_equal(plan.private_bytes, plan.total_bytes);
    assert_non_null(strstr(error.message, "weights 637."));
    assert_non_null(strstr(error.message, "62.50 GiB are available"));
    assert_non_null(strstr(error.hint, "--weights mmap"));

    session.ctx = 1 << 30;
    assert_int_equal(fr_plan_memory(inspection, &options, &session, &plan, &error), FR_ERROR_ARGUMENT);
    fr_inspection_destroy(inspection);
}

/* ---- Refusals ---------------------------------------------------------------------------------------------------- */

static void count_call(void *user, const fr_memory_plan *plan) {
    assert_true(plan->private_bytes > 0);
    ++*(int *)user;
}

static void what_cannot_fit_is_refused_with_the_figures(void **state) {
    (void)state;
    fr_session_options session = {.ctx = 256, .kv = FR_KV_F32};
    fr_model_options o = {.threads = 2, .session = &session, .planned = count_call};
    fr_model *model = NULL;
    fr_model_info info;
    fr_error error;
    int told = 0;
    o.user = &told;
    assert_int_equal(fr_model_open(dir_of("pico-mtp-s1"), &o, &model, &error), FR_OK);
    fr_model_get_info(model, &info);
    fr_model_destroy(model);
    assert_int_equal(told, 1);

    /* One byte decides. */
    o.memory_limit = info.plan.private_bytes;
    assert_int_equal(fr_model_open(dir_of("pico-mtp-s1"), &o, &model, &error), FR_OK);
    fr_model_get_info(model, &info);
    assert_false(info.plan.all_fits); /* the mapped weights do not, and need not */
    fr_model_destroy(model);
    o.memory_limit--;
    told = 0;
    model = NULL;
    assert_int_equal(fr_model_open(dir_of("pico-mtp-s1"), &o, &model, &error), FR_ERROR_MEMORY);
    assert_null(model);
    assert_int_equal(told, 0);
    assert_non_null(strstr(error.message, "KV caches 192.00 KiB"));
    assert_non_null(strstr(error.message, "for 256 tokens"));
    assert_null(strstr(error.message, "copied"));
    assert_non_null(strstr(error.hint, "--ctx"));
    assert_non_null(strstr(error.hint, "--kv bf16"));
    assert_null(strstr(error.hint, "mmap"));

    /* Copied weights count. */
    o.memory_limit = info.plan.total_bytes - 1;
    o.weights = FR_WEIGHTS_COPY;
    assert_int_equal(fr_model_open(dir_of("pico-mtp-s1"), &o, &model, &error), FR_ERROR_MEMORY);
    assert_non_null(strstr(error.message, "weights 1."));
    assert_non_null(strstr(error.hint, "--weights mmap"));
    o.memory_limit++;
    assert_int_equal(fr_model_open(dir_of("pico-mtp-s1"), &o, &model, &error), FR_OK);
    fr_model_destroy(model);
}

/* A session that nobody planned is held to what the model leaves. */
static void a_session_that_cannot_fit_is_refused(void **state) {
    (void)state;
    fr_session_options small = {.ctx = 64, .prefill_chunk = 8}, large = {.ctx = 256, .prefill_chunk = 8};
    fr_session *session = NULL;
    fr_model_info info;
    fr_error error;
    fr_model *model = open_model("pico-mtp-s1", (fr_model_options){.session = &small});
    fr_model_get_info(model, &info);
    fr_model_destroy(model);
    model = open_model("pico-mtp-s1", (fr_model_options){.session = NULL, .memory_limit = info.plan.private_bytes});
    driver_prefill(session = driver_session(model, &small), (const int32_t[]){1, 2, 3}, 3);
    fr_session_destroy(session);
    session = NULL;
    assert_int_equal(fr_session_create(model, &large, &session, &error), FR_ERROR_MEMORY);
    assert_null(session);
    assert_non_null(strstr(error.message, "for 256 tokens"));
    assert_non_null(strstr(error.hint, "--ctx"));
    assert_null(strstr(error.hint, "--kv"));
    fr_model_destroy(model);
}

/* ---- Where weights are --------------------------------------------------------------------------------------------- */

static const fr_weights loads[] = {FR_WEIGHTS_MMAP, FR_WEIGHTS_COPY, FR_WEIGHTS_POPULATE, FR_WEIGHTS_STREAM};

static void results_do_not_depend_on_where_weights_are(void **state) {
    (void)state;
    enum { MODELS = 3, MADE = 40, LOADS = sizeof loads / sizeof *loads };
    static const char *const names[MODELS] = {"pico-mtp-s1", "pico-noqlora-s1", "nano-mtp-s1"};
    for (int i = 0; i < MODELS; i++) {
        golden g;
        driver_scores scores[LOADS];
        int32_t made[LOADS][2][MADE];
        golden_load(names[i], 70, GOLDEN_F32, &g);
        for (int l = 0; l < LOADS; l++) {
            fr_model *model = open_model(names[i], (fr_model_options){.weights = loads[l]});
            driver_score(model, &(fr_session_options){.drafting = FR_DRAFTING_ON}, g.tokens, 70, &scores[l]);
            for (int mtp = 0; mtp < 2; mtp++) {
                fr_session_options o = {.ctx = 128, .drafting = mtp ? FR_DRAFTING_ON : FR_DRAFTING_OFF, .depth = 3};
                fr_session *session = driver_session(model, &o);
                driver_prefill(session, g.tokens, 70);
                driver_generate(session, MADE, made[l][mtp], NULL, NULL);
                fr_session_destroy(session);
            }
            fr_model_destroy(model);
            assert_memory_equal(made[l][0], made[0][0], sizeof made[0][0]);
            assert_memory_equal(made[l][1], made[0][0], sizeof made[0][0]);
            if (l == 0) continue;
            assert_memory_equal(scores[l].logits, scores[0].logits, 70 * (size_t)g.vocab * sizeof(float));
            assert_memory_equal(scores[l].hidden, scores[0].hidden, 70 * (size_t)g.hidden_size * sizeof(float));
            assert_memory_equal(scores[l].mtp_logits, scores[0].mtp_logits, 69 * (size_t)g.vocab * sizeof(float));
            driver_scores_release(&scores[l]);
        }
        driver_scores_release(&scores[0]);
        golden_release(&g);
    }
}

typedef struct progress {
    uint64_t done, total;
    int calls, most; /* stops after `most` */
} progress;

static bool note_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    progress *p = user;
    assert_non_null(what);
    assert_true(done <= total);
    p->done = done;
    p->total = total;
    return ++p->calls < p->most;
}

/* Every second tensor copied: those, and only those, move; their bytes stay. */
static void copies_are_what_is_in_the_files(void **state) {
    (void)state;
    fr_checkpoint *copied = NULL, *mapped = NULL;
    assert_int_equal(fr_checkpoint_open(dir_of("nano-mtp-s1"), &copied, NULL), FR_OK);
    assert_int_equal(fr_checkpoint_open(dir_of("nano-mtp-s1"), &mapped, NULL), FR_OK);
    size_t count = fr_checkpoint_count(copied);
    bool *wanted = calloc(count, sizeof *wanted);
    const void **before = calloc(count, sizeof *before);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        before[i] = fr_checkpoint_at(copied, i)->data;
        wanted[i] = i % 2 == 0;
        bytes += wanted[i] ? fr_checkpoint_at(copied, i)->bytes : 0;
    }
    progress p = {.most = 1 << 30};
    fr_load_options o = {.wanted = wanted, .threads = 3, .progress = note_progress, .user = &p};
    assert_in_range(fr_checkpoint_copy_bytes(copied, wanted, NULL), bytes, bytes + 64 * count + 2 * MIB);
    assert_int_equal(fr_checkpoint_populate(copied, &o, NULL), FR_OK);
    for (size_t i = 0; i < count; i++) assert_ptr_equal(fr_checkpoint_at(copied, i)->data, before[i]);
    assert_int_equal(fr_checkpoint_copy(copied, &o, NULL), FR_OK);
    assert_int_equal(p.total, bytes >> 20);
    assert_int_equal(p.done, p.total); /* whoever had the last piece */
    for (size_t i = 0; i < count; i++) {
        const fr_tensor *tensor = fr_checkpoint_at(copied, i);
        assert_memory_equal(tensor->data, fr_checkpoint_at(mapped, i)->data, tensor->bytes);
        if (!wanted[i]) assert_ptr_equal(tensor->data, before[i]);
        if (wanted[i]) assert_ptr_not_equal(tensor->data, before[i]);
        if (wanted[i]) assert_int_equal((uintptr_t)tensor->data % 64, 0);
    }
    free(wanted);
    free(before);
    fr_checkpoint_destroy(copied);
    fr_checkpoint_destroy(mapped);
}

/* A copy that fails says of which file, and leaves everything in the mapping. */
static void a_copy_that_fails_changes_nothing(void **state) {
    (void)state;
    scratch s = scratch_create();
    fr_checkpoint *c = NULL;
    fr_error error;
    scratch_copy_from(&s, dir_of("pico-mtp-s1"));
    assert_int_equal(fr_checkpoint_open(s.dir, &c, NULL), FR_OK);
    size_t count = fr_checkpoint_count(c);
    bool *wanted = calloc(count, sizeof *wanted);
    memset(wanted, true, count);
    const void *before = fr_checkpoint_at(c, 0)->data;
    progress p = {.most = 1};
    fr_load_options o = {.wanted = wanted, .threads = 1, .progress = note_progress, .user = &p};
    assert_int_equal(fr_checkpoint_copy(c, &o, &error), FR_INTERRUPTED);
    assert_int_equal(p.calls, 1);
    assert_int_equal(fr_checkpoint_populate(c, &o, &error), FR_INTERRUPTED);
    o.progress = NULL;
    o.threads = 3;
    const char *shard = scratch_path(&s, "model-00002-of-00002.safetensors");
    assert_int_equal(truncate(shard, 300000), 0);
    assert_int_equal(fr_checkpoint_copy(c, &o, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "model-00002-of-00002.safetensors"));
    assert_non_null(strstr(error.message, "the file ends here"));
    assert_int_equal(unlink(shard), 0);
    assert_int_equal(fr_checkpoint_copy(c, &o, &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "No such file"));
    assert_ptr_equal(fr_checkpoint_at(c, 0)->data, before);
    free(wanted);
    fr_checkpoint_destroy(c);
    scratch_destroy(&s);
}

/* The same at the library's door: no model, nothing leaked (a sanitizer sees to that). */
static void an_interrupted_opening_gives_no_model(void **state) {
    (void)state;
    for (int l = 1; l < 3; l++) {
        progress p = {.most = 1};
        fr_model_options o = {.threads = 1, .weights = loads[l], .progress = note_progress, .user = &p};
        fr_model *model = NULL;
        fr_error error;
        assert_int_equal(fr_model_open(dir_of("pico-mtp-s1"), &o, &model, &error), FR_INTERRUPTED);
        assert_null(model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(available_is_what_the_system_and_its_groups_leave),
        cmocka_unit_test(this_machine_has_memory),
        cmocka_unit_test(the_plan_is_what_is_taken),
        cmocka_unit_test(drafts_get_a_copy_of_the_head_where_it_pays_and_fits),
        cmocka_unit_test(a_config_alone_is_planned),
        cmocka_unit_test(hundreds_of_threads_need_little_memory),
        cmocka_unit_test(what_cannot_fit_is_refused_with_the_figures),
        cmocka_unit_test(a_session_that_cannot_fit_is_refused),
        cmocka_unit_test(results_do_not_depend_on_where_weights_are),
        cmocka_unit_test(copies_are_what_is_in_the_files),
        cmocka_unit_test(a_copy_that_fails_changes_nothing),
        cmocka_unit_test(an_interrupted_opening_gives_no_model),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
