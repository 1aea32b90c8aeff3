/* The reader of file ranges: by io_uring and by threads, past the page cache and through it, the bytes are those of the file. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/io/private.h"
#include "core/memory.h"
#include "scratch.h"

enum { FILE_BYTES = (6 << 20) + 1234, READS = 24, ROOM = 3 << 20 };

typedef struct fixture {
    scratch dir;
    char *content;
    char *memory; /* [READS, ROOM] */
    fr_read reads[READS];
} fixture;

static const struct {
    fr_reader_kind kind;
    bool cached;
} ways[] = {{FR_READER_THREADS, false}, {FR_READER_THREADS, true}, {FR_READER_URING, false}, {FR_READER_URING, true}};
enum { WAYS = sizeof ways / sizeof *ways };

static int set_up(void **state) {
    fixture *f = fr_alloc_zeroed(1, sizeof *f);
    f->dir = scratch_create();
    f->content = fr_alloc(FILE_BYTES);
    f->memory = aligned_alloc(FR_READ_PAGE, (size_t)READS * ROOM);
    uint32_t x = 1;
    for (int i = 0; i < FILE_BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        f->content[i] = (char)(x >> 24);
    }
    scratch_write(&f->dir, "a", f->content, FILE_BYTES);
    scratch_write(&f->dir, "b", f->content + 1, 5000);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    scratch_remove_tree(&f->dir);
    free(f->memory);
    fr_free(f->content);
    fr_free(f);
    return 0;
}

/* NULL: this way is not allowed here. */
static fr_reader *open_reader(fixture *f, int way) {
    fr_error error;
    fr_reader *reader = NULL;
    char a[1024], b[1024];
    snprintf(a, sizeof a, "%s", scratch_path(&f->dir, "a"));
    snprintf(b, sizeof b, "%s", scratch_path(&f->dir, "b"));
    fr_reader_options o = {ways[way].kind, ways[way].cached, f->memory, (uint64_t)READS * ROOM, NULL};
    fr_status status = fr_reader_create((const char *[]){a, NULL, b}, 3, &o, &reader, &error);
    assert_true(status == FR_OK || (ways[way].kind == FR_READER_URING && status == FR_ERROR_UNSUPPORTED));
    return reader;
}

static fr_read *read_of(fixture *f, int i, int file, uint64_t offset, uint64_t bytes) {
    fr_read *read = &f->reads[i];
    assert_true(bytes + FR_READ_PAGE <= ROOM);
    *read = (fr_read){.file = file, .offset = offset, .bytes = bytes};
    read->to = f->memory + (size_t)i * ROOM + offset % FR_READ_PAGE;
    memset(read->to, 0, bytes);
    return read;
}

static fr_read_state end_of(fr_reader *reader, fr_read *read) {
    for (;;) {
        unsigned events = fr_reader_events(reader);
        fr_read_state state = atomic_load(&read->state);
        if (state != FR_READ_ASKED) return state;
        fr_reader_wait(reader, events);
    }
}

static void ranges_at_any_offset_are_those_of_the_file(void **state) {
    fixture *f = *state;
    for (int way = 0; way < WAYS; way++) {
        fr_reader *reader = open_reader(f, way);
        if (!reader) continue;
        uint64_t x = 7, wanted = 0, bytes;
        double busy;
        for (int i = 0; i < READS; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            uint64_t offset = (x >> 33) % (FILE_BYTES - 1), most = FILE_BYTES - offset;
            uint64_t size = i % 3 == 0 ? 1 + (uint64_t)i : (x >> 13) % (2u << 20) + 1;
            fr_read *read = read_of(f, i, 0, offset, size < most ? size : most);
            wanted += read->bytes;
            fr_reader_submit(reader, read, i % 2);
        }
        for (int i = 0; i < READS; i++) {
            assert_int_equal(end_of(reader, &f->reads[i]), FR_READ_DONE);
            assert_memory_equal(f->reads[i].to, f->content + f->reads[i].offset, f->reads[i].bytes);
        }
        fr_reader_count(reader, &bytes, &busy);
        assert_true(bytes >= wanted);
        assert_true(busy > 0.0);
        fr_reader_destroy(reader);
    }
}

static void the_end_of_a_file_can_be_read_and_what_is_behind_it_is_an_error(void **state) {
    fixture *f = *state;
    for (int way = 0; way < WAYS; way++) {
        fr_error error = {0};
        fr_reader *reader = open_reader(f, way);
        if (!reader) continue;
        fr_read *last = read_of(f, 0, 2, 4999, 1), *behind = read_of(f, 1, 2, 4990, 11),
                *across = read_of(f, 2, 0, FILE_BYTES - (2 << 20), (2 << 20) + 1);
        fr_reader_submit(reader, last, true);
        fr_reader_submit(reader, behind, true);
        fr_reader_submit(reader, across, true);
        assert_int_equal(end_of(reader, last), FR_READ_DONE);
        assert_int_equal(*last->to, f->content[5000]);
        assert_int_equal(end_of(reader, behind), FR_READ_FAILED);
        assert_int_equal(end_of(reader, across), FR_READ_FAILED);
        assert_int_equal(behind->failed_at, 5000); /* where the file ends */
        assert_int_equal(across->failed_at, FILE_BYTES);
        assert_int_equal(fr_reader_fail(reader, behind, "some.weight", &error), FR_ERROR_IO);
        assert_non_null(strstr(error.where, "/b: some.weight"));
        assert_non_null(strstr(error.message, "before its data"));
        fr_reader_submit(reader, last, false); /* goes on after a failure */
        assert_int_equal(end_of(reader, last), FR_READ_DONE);
        fr_reader_destroy(reader);
    }
}

static void a_canceled_read_becomes_idle_and_can_be_asked_for_again(void **state) {
    fixture *f = *state;
    for (int way = 0; way < WAYS; way++) {
        fr_reader *reader = open_reader(f, way);
        if (!reader) continue;
        for (int round = 0; round < 4; round++) {
            for (int i = 0; i < READS; i++) fr_reader_submit(reader, read_of(f, i, 0, (uint64_t)i * 100001, 2 << 20), false);
            for (int i = 0; i < READS; i += 2) fr_reader_cancel(reader, &f->reads[i]);
            for (int i = 0; i < READS; i += 4) fr_reader_hurry(reader, &f->reads[i]);
            for (int i = 0; i < READS; i++) {
                fr_read_state end = end_of(reader, &f->reads[i]);
                assert_true(end == FR_READ_DONE || (end == FR_READ_IDLE && i % 2 == 0));
                if (end == FR_READ_DONE) assert_memory_equal(f->reads[i].to, f->content + f->reads[i].offset, f->reads[i].bytes);
            }
        }
        fr_reader_destroy(reader);
    }
}

static void a_reader_can_end_with_reads_that_nobody_waits_for(void **state) {
    fixture *f = *state;
    for (int way = 0; way < WAYS; way++) {
        fr_reader *reader = open_reader(f, way);
        for (int i = 0; reader && i < READS; i++) fr_reader_submit(reader, read_of(f, i, 0, (uint64_t)i, 2 << 20), false);
        fr_reader_destroy(reader);
    }
}

static void do_nothing(void *unused) {
    (void)unused;
}

/* The list alone, without threads. */
static void what_is_urgent_waits_for_pieces_in_flight_only(void **state) {
    fixture *f = *state;
    fr_read_file files[] = {{"a", 5}};
    const fr_reader_type type = {.wake = do_nothing};
    fr_reader reader = {.files = files, .num_files = 1, .type = &type};
    fr_piece first, piece;
    fr_read *low = read_of(f, 0, 0, 100, 2 << 20), *urgent = read_of(f, 1, 0, 5000, 10);
    pthread_mutex_init(&reader.lock, NULL);
    assert_false(fr_reader_next(&reader, &first));
    fr_reader_submit(&reader, low, false);
    assert_true(fr_reader_next(&reader, &first)); /* the first MiB, from its page on */
    assert_true(first.read == low && first.offset == 0 && first.bytes == FR_READ_PIECE && first.needed == FR_READ_PIECE);
    fr_reader_submit(&reader, urgent, true);
    assert_true(fr_reader_next(&reader, &piece));
    assert_true(piece.read == urgent && piece.offset == FR_READ_PAGE && piece.bytes == FR_READ_PAGE && piece.needed == 914);
    assert_true(fr_reader_over(&reader, &first, -EINTR)); /* once more */
    assert_true(fr_reader_over(&reader, &first, 5000));   /* short: goes on at the last whole page */
    assert_true(first.offset == FR_READ_PAGE && first.bytes == FR_READ_PIECE - FR_READ_PAGE && first.to == low->to - 100 + 4096);
    assert_false(fr_reader_over(&reader, &first, (int64_t)first.bytes));
    assert_int_equal(low->state, FR_READ_ASKED);
    assert_false(fr_reader_over(&reader, &piece, 914)); /* the file ends with the range */
    assert_int_equal(urgent->state, FR_READ_DONE);
    fr_reader_cancel(&reader, low);
    assert_int_equal(low->state, FR_READ_IDLE);
    assert_false(fr_reader_next(&reader, &piece));
    pthread_mutex_destroy(&reader.lock);
}

static void a_failed_piece_ends_its_read_alone(void **state) {
    fixture *f = *state;
    fr_read_file files[] = {{"a", 5}};
    const fr_reader_type type = {.wake = do_nothing};
    fr_reader reader = {.files = files, .num_files = 1, .type = &type};
    fr_piece piece[3];
    fr_error error;
    fr_read *bad = read_of(f, 0, 0, 0, FR_READ_PIECE + 100), *good = read_of(f, 1, 0, 0, 10);
    pthread_mutex_init(&reader.lock, NULL);
    fr_reader_submit(&reader, bad, true);
    fr_reader_submit(&reader, good, true);
    for (int i = 0; i < 3; i++) assert_true(fr_reader_next(&reader, &piece[i]));
    assert_false(fr_reader_over(&reader, &piece[1], -EIO));
    assert_int_equal(bad->state, FR_READ_ASKED); /* its memory is still being written to */
    assert_false(fr_reader_over(&reader, &piece[0], FR_READ_PIECE));
    assert_int_equal(bad->state, FR_READ_FAILED);
    assert_int_equal(bad->failed_at, FR_READ_PIECE);
    assert_false(fr_reader_over(&reader, &piece[2], 10));
    assert_int_equal(good->state, FR_READ_DONE);
    assert_int_equal(fr_reader_fail(&reader, bad, "t", &error), FR_ERROR_IO);
    assert_non_null(strstr(error.message, "a: t: cannot be read at offset 1048576: Input/output error"));
    pthread_mutex_destroy(&reader.lock);
}

static void a_file_that_is_not_there_is_an_error(void **state) {
    (void)state;
    fr_reader *reader;
    fr_error error;
    fr_reader_options o = {.kind = FR_READER_THREADS};
    assert_int_equal(fr_reader_create((const char *[]){"/nowhere/at/all"}, 1, &o, &reader, &error), FR_ERROR_IO);
    assert_string_equal(error.where, "/nowhere/at/all");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ranges_at_any_offset_are_those_of_the_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_a_file_can_be_read_and_what_is_behind_it_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_canceled_read_becomes_idle_and_can_be_asked_for_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_can_end_with_reads_that_nobody_waits_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_urgent_waits_for_pieces_in_flight_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_piece_ends_its_read_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_is_not_there_is_an_error, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("reader", tests, NULL, NULL);
}
