/* One list of tensors: rows are added to it in one place, here, and everything that walks the list must see them.
 *
 * The program is linked with a table of its own in the place of the network's: that one's rows, and two that are made up. They
 * are bound where a network without q_lora_rank has nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define fr_tensors network_tensors
#include "model/tensors.c"
#undef fr_tensors

#include "forerun_checkpoint.h"
#include "model/traffic.h"
#include "scratch.h"
#include "study/bench/bench.h"

#define CONFIG FR_TEST_DIR "/golden/pico-noqlora-s1"
#define LINEAR_NAME "self_attn.extra_proj.weight"
#define VECTOR_NAME "self_attn.extra_norm.weight"
enum { LAYERS = 4, HIDDEN_SIZE = 160 }; /* MTP module included */

/* ---- The made-up rows ---- */

static bool added = true;
static int extra_width = 300; /* more than two blocks */

WIDTH(extra, extra_width)
WHEN(if_added, REQUIRED_IF(added))

enum { NETWORK_ROWS = sizeof rows / sizeof *rows };
static fr_schema_row all_rows[NETWORK_ROWS + 2];
extern const fr_schema fr_tensors;
const fr_schema fr_tensors = {all_rows, NETWORK_ROWS + 2};

static int add_rows(void **state) {
    static const fr_schema_row extras[] = {
        LINEAR(LINEAR_NAME, extra, hidden_size, ATTENTION, OUT, LAYER, mla.q_a_proj, if_added),
        VECTOR(VECTOR_NAME, extra, one, ATTENTION, NONE, LAYER, mla.q_a_layernorm, if_added),
    };
    size_t n = 0;
    (void)state;
    for (size_t i = 0; i < NETWORK_ROWS; i++) {
        all_rows[n++] = rows[i];
        if (strcmp(rows[i].name, "self_attn.q_proj.weight") != 0) continue;
        all_rows[n++] = extras[0];
        all_rows[n++] = extras[1];
    }
    return n != NETWORK_ROWS + 2;
}

/* ---- Checkpoints that have them ---- */

static char dir[512], converted[512];
static scratch place;

static int synthesize(void **state) {
    fr_error error;
    if (add_rows(state) != 0) return 1;
    place = scratch_create();
    snprintf(dir, sizeof dir, "%s/made", place.dir);
    snprintf(converted, sizeof converted, "%s/converted", place.dir);
    return fr_synth(CONFIG, dir, NULL, NULL, &error) != FR_OK;
}

static int clean_up(void **state) {
    const char *const dirs[] = {dir, converted};
    (void)state;
    for (int i = 0; i < 2; i++) {
        scratch s;
        snprintf(s.dir, sizeof s.dir, "%s", dirs[i]);
        if (access(dirs[i], F_OK) == 0) scratch_destroy(&s);
    }
    scratch_destroy(&place);
    return 0;
}

static fr_checkpoint *open_checkpoint(const char *path) {
    fr_checkpoint *checkpoint = NULL;
    fr_error error;
    if (fr_checkpoint_open(path, &checkpoint, &error) != FR_OK) fail_msg("%s", error.message);
    return checkpoint;
}

static fr_model *open_model(const char *path) {
    fr_model *model = NULL;
    fr_error error;
    if (fr_model_open(path, &(fr_model_options){.threads = 2}, &model, &error) != FR_OK) fail_msg("%s", error.message);
    return model;
}

static const fr_tensor *tensor_of(const fr_checkpoint *checkpoint, int layer, const char *suffix) {
    char name[128];
    snprintf(name, sizeof name, "model.layers.%d.%s", layer, suffix);
    return fr_checkpoint_find(checkpoint, name);
}

/* ---- Everything sees them ---- */

static void synth_writes_them(void **state) {
    (void)state;
    fr_checkpoint *checkpoint = open_checkpoint(dir);
    for (int i = 0; i < LAYERS; i++) {
        const fr_tensor *linear = tensor_of(checkpoint, i, LINEAR_NAME), *vector = tensor_of(checkpoint, i, VECTOR_NAME);
        const fr_tensor *scale = tensor_of(checkpoint, i, LINEAR_NAME "_scale_inv");
        assert_non_null(linear);
        assert_non_null(vector);
        assert_non_null(scale);
        assert_int_equal(linear->dtype, FR_F8_E4M3);
        assert_int_equal(linear->shape[0], extra_width);
        assert_int_equal(linear->shape[1], HIDDEN_SIZE);
        assert_int_equal(scale->shape[0], 3);
        assert_int_equal(scale->shape[1], 2);
        assert_int_equal(vector->dtype, FR_BF16);
    }
    assert_null(tensor_of(checkpoint, LAYERS, LINEAR_NAME));
    fr_checkpoint_destroy(checkpoint);
}

static struct { int missing, unexpected, shape, other; } found;

static void sort_out(void *user, const fr_problem *problem) {
    (void)user;
    if (!strstr(problem->tensor, "extra_"))
        found.other++;
    else if (strcmp(problem->problem, "missing") == 0)
        found.missing++;
    else if (strstr(problem->problem, "implies no such tensor"))
        found.unexpected++;
    else
        found.shape += strncmp(problem->problem, "expected ", 9) == 0;
}

static void check(const char *path, int missing, int unexpected, int shape) {
    memset(&found, 0, sizeof found);
    assert_int_equal(fr_check(path, 0, sort_out, NULL, NULL, NULL, NULL, NULL, NULL), FR_OK);
    assert_int_equal(found.missing, missing);
    assert_int_equal(found.unexpected, unexpected);
    assert_int_equal(found.shape, shape);
    assert_int_equal(found.other, 0);
}

static void check_wants_them(void **state) {
    (void)state;
    check(dir, 0, 0, 0);
    check(CONFIG, 2 * LAYERS, 0, 0);
    added = false;
    check(dir, 0, 3 * LAYERS, 0); /* the scales too */
    check(CONFIG, 0, 0, 0);
    added = true;
    extra_width++;
    check(dir, 0, 0, 2 * LAYERS); /* the scales' shape is still right */
    extra_width--;
}

static void opening_wants_them(void **state) {
    fr_model *model;
    fr_error error;
    (void)state;
    assert_int_equal(fr_model_open(CONFIG, NULL, &model, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "model.layers.0." LINEAR_NAME " is missing"));
    extra_width++;
    assert_int_equal(fr_model_open(dir, NULL, &model, &error), FR_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "model.layers.0." LINEAR_NAME ": expected F32 or BF16 or F8_E4M3 [301, 160], found "
                                          "F8_E4M3 [300, 160]"));
    extra_width--;
}

static void opening_binds_them(void **state) {
    (void)state;
    fr_model *model = open_model(dir);
    for (int i = 0; i < LAYERS; i++) {
        const fr_mla *mla = i < LAYERS - 1 ? &model->layers[i].mla : &model->mtp.layer.mla;
        const fr_tensor *vector = tensor_of(model->checkpoint, i, VECTOR_NAME);
        assert_ptr_equal(mla->q_a_proj.w, tensor_of(model->checkpoint, i, LINEAR_NAME)->data);
        assert_ptr_equal(mla->q_a_proj.scale, tensor_of(model->checkpoint, i, LINEAR_NAME "_scale_inv")->data);
        for (int j = 0; j < extra_width; j++) {
            uint16_t bits;
            memcpy(&bits, (const char *)vector->data + 2 * j, sizeof bits);
            assert_true(mla->q_a_layernorm[j] == fr_bf16_f32(bits));
        }
    }
    fr_model_destroy(model); /* leaks are the sanitizer's business */
}

static fr_status bind_a_part(void *user, const fr_schema_tensor *t) {
    fr_linear part;
    if (t->row->kind != FR_SCHEMA_LINEAR || !strstr(t->name, LINEAR_NAME)) return FR_OK;
    assert_int_equal(fr_linear_bind(&part, user, t, &(fr_ranks){.rank = 1, .size = 2}, NULL), FR_OK);
    assert_int_equal(part.out, extra_width);
    assert_int_equal(part.before, FR_BLOCK); /* of the blocks of 128 the second and the third */
    assert_int_equal(fr_linear_own(&part), extra_width - FR_BLOCK);
    assert_int_equal(part.in, HIDDEN_SIZE);
    fr_linear_release(&part);
    return FR_INTERRUPTED;
}

static void a_rank_takes_its_part_of_them(void **state) {
    fr_config config;
    fr_checkpoint *checkpoint = open_checkpoint(dir);
    (void)state;
    assert_int_equal(fr_config_load(dir, &config, NULL, NULL), FR_OK);
    assert_int_equal(fr_schema_each(&config, bind_a_part, checkpoint), FR_INTERRUPTED);
    fr_checkpoint_destroy(checkpoint);
}

static fr_parameters parameters_with(bool with, fr_memory_plan *plan) {
    fr_inspection *inspection;
    added = with;
    assert_int_equal(fr_inspect(dir, &inspection, NULL), FR_OK);
    assert_int_equal(fr_plan_memory(inspection, NULL, NULL, plan, NULL), FR_OK);
    fr_parameters p = *fr_inspection_parameters(inspection);
    fr_inspection_destroy(inspection);
    added = true;
    return p;
}

static void inspect_and_the_plan_count_them(void **state) {
    fr_memory_plan plan_with, plan_without;
    fr_parameters with = parameters_with(true, &plan_with), without = parameters_with(false, &plan_without);
    uint64_t matrix = (uint64_t)extra_width * HIDDEN_SIZE, vector = (uint64_t)extra_width;
    (void)state;
    assert_int_equal(with.attention - without.attention, (LAYERS - 1) * (matrix + vector));
    assert_int_equal(with.main_total - without.main_total, (LAYERS - 1) * (matrix + vector));
    assert_int_equal(with.main_activated - without.main_activated, (LAYERS - 1) * (matrix + vector));
    assert_int_equal(with.mtp_unique - without.mtp_unique, matrix + vector);
    assert_int_equal(with.fp8_bytes - without.fp8_bytes, LAYERS * (matrix + 4 * 3 * 2 + 2 * vector));
    assert_int_equal(plan_with.weight_bytes - plan_without.weight_bytes, LAYERS * (matrix + 4 * 3 * 2));
    assert_true(plan_with.table_bytes - plan_without.table_bytes > LAYERS * vector * sizeof(float));
}

static void quantize_converts_them(void **state) {
    fr_written with, without;
    fr_error error;
    (void)state;
    added = false;
    if (fr_quantize(dir, converted, &(fr_quantize_options){.to = FR_PRECISION_BF16}, &without, &error) != FR_OK)
        fail_msg("%s", error.message);
    added = true;
    const fr_quantize_options again = {.to = FR_PRECISION_BF16, .force = true};
    if (fr_quantize(dir, converted, &again, &with, &error) != FR_OK) fail_msg("%s", error.message);
    assert_int_equal(with.tensors_converted - without.tensors_converted, LAYERS);
    check(converted, 0, 0, 0);
    fr_checkpoint *checkpoint = open_checkpoint(converted);
    assert_int_equal(tensor_of(checkpoint, 0, LINEAR_NAME)->dtype, FR_BF16);
    assert_null(tensor_of(checkpoint, 0, LINEAR_NAME "_scale_inv"));
    fr_checkpoint_destroy(checkpoint);
}

static void passes_are_known_to_read_them(void **state) {
    fr_traffic with, without;
    uint64_t matrix = (uint64_t)extra_width * HIDDEN_SIZE, bytes = matrix + 4 * 3 * 2;
    fr_model *model = open_model(dir);
    (void)state;
    fr_traffic_of(model, &with);
    added = false;
    fr_traffic_of(model, &without);
    added = true;
    assert_int_equal(with.fixed - without.fixed, (LAYERS - 1) * bytes);
    assert_int_equal(with.draft - without.draft, bytes);
    assert_int_equal(with.expert, without.expert);
    assert_int_equal(with.token_weights - without.token_weights, (LAYERS - 1) * matrix);
    fr_model_destroy(model);
}

static void bench_lists_them(void **state) {
    static const int one_row[] = {1};
    fr_bench_result result = {.read_buffer_bytes = 1 << 20};
    int times = 0;
    fr_error error;
    fr_model *model = open_model(dir);
    fr_bench_run b = {.model = model, .options = {.rows = one_row, .num_rows = 1, .seconds = 1e-9}, .result = &result};
    (void)state;
    b.buffer = fr_alloc_zeroed(result.read_buffer_bytes, 1);
    if (fr_bench_measure_linears(&b, &error) != FR_OK) fail_msg("%s", error.message);
    for (size_t i = 0; i < result.num_linear; i++) {
        const fr_bench_linear *l = &result.linear[i];
        if (strcmp(l->name, "extra_proj") != 0) continue;
        times++;
        assert_int_equal(l->out, extra_width);
        assert_int_equal(l->in, HIDDEN_SIZE);
        assert_int_equal(l->matrices, LAYERS);
    }
    assert_int_equal(times, 1);
    fr_free(result.linear);
    fr_free(b.buffer);
    fr_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synth_writes_them),
        cmocka_unit_test(check_wants_them),
        cmocka_unit_test(opening_wants_them),
        cmocka_unit_test(opening_binds_them),
        cmocka_unit_test(a_rank_takes_its_part_of_them),
        cmocka_unit_test(inspect_and_the_plan_count_them),
        cmocka_unit_test(quantize_converts_them),
        cmocka_unit_test(passes_are_known_to_read_them),
        cmocka_unit_test(bench_lists_them),
    };
    return cmocka_run_group_tests_name("schema", tests, synthesize, clean_up);
}
