#include "cli/notice.h"

#include "cli/message.h"
#include "core/notices.h"

static fr_notices kept; /* of this run of the program */

void fr_cli_notice(const fr_notice *notice) {
    size_t before = kept.count;
    fr_notices_add(&kept, notice->what, "%s", notice->why);
    if (kept.count > before) fr_cli_note("notice: %s: %s", notice->what, notice->why);
}

void fr_cli_notices(const fr_notice *notices, size_t count) {
    for (size_t i = 0; i < count; i++) fr_cli_notice(&notices[i]);
}

void fr_cli_take_notice(void *user, const fr_notice *notice) {
    (void)user;
    fr_cli_notice(notice);
}

void fr_cli_add_notices(fr_json_builder *b, cJSON *to) {
    fr_json_add_notices(b, to, kept.list, kept.count);
}
