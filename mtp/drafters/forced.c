#include "mtp/drafters/forced.h"

static fr_drafter *inner_of(const fr_drafter *d) {
    return ((const fr_forced_drafter *)d)->inner;
}

static void committed(fr_drafter *d, const fr_draft_context *context, int rows) {
    fr_drafter_committed(inner_of(d), context, rows);
}

static void catch_up(fr_drafter *d, const fr_draft_context *context) {
    fr_drafter_catch_up(inner_of(d), context);
}

static void truncate(fr_drafter *d, const fr_draft_context *context) {
    fr_drafter_truncate(inner_of(d), context);
}

static void draft(fr_drafter *d, const fr_draft_context *context, fr_cycle *cycle) {
    const fr_forced_drafter *forced = (const fr_forced_drafter *)d;
    fr_drafter_draft(forced->inner, context, cycle);
    forced->fn(forced->user, context, cycle);
}

static const fr_drafter_type type = {.name = "forced",
                                     .size = sizeof(fr_forced_drafter),
                                     .committed = committed,
                                     .catch_up = catch_up,
                                     .truncate = truncate,
                                     .draft = draft};

fr_forced_drafter fr_forced_drafter_around(fr_drafter *inner, fr_force_fn fn, void *user) {
    return (fr_forced_drafter){.base.type = &type, .inner = inner, .fn = fn, .user = user};
}
