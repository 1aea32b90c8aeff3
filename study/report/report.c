#include "study/report/report.h"

#include <string.h>

#include "core/json.h"

bool fr_report_is(const cJSON *document, const char *schema) {
    const char *found = fr_path_text(document, "schema");
    return found && strcmp(found, schema) == 0;
}

fr_status fr_report_parse(const char *json, cJSON **document, fr_error *error) {
    char found[128];
    *document = NULL;
    FR_TRY(fr_json_parse(json, strlen(json), "report", document, error));
    if (fr_report_is(*document, FR_SCHEMA_ACCEPT) || fr_report_is(*document, FR_SCHEMA_AB)) return FR_OK;
    fr_json_describe(fr_json_find(*document, "schema"), found, sizeof found);
    cJSON_Delete(*document);
    *document = NULL;
    fr_fail(error, FR_ERROR_FORMAT, "report: schema: expected " FR_SCHEMA_ACCEPT " or " FR_SCHEMA_AB ", found %s", found);
    return fr_hint(error, FR_ERROR_FORMAT, "a report is made of what forerun accept --json or forerun ab --json printed");
}
