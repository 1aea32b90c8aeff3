#include "study/report/report.h"

#include <math.h>
#include <string.h>

#include "core/json.h"
#include "study/result.h"
#include "study/statistics.h"

fr_status fr_report_parse(const char *json, cJSON **document, fr_error *error) {
    char found[128];
    *document = NULL;
    FR_TRY(fr_json_parse(json, strlen(json), "report", document, error));
    if (fr_study_is(*document, "accept") || fr_study_is(*document, "ab")) return FR_OK;
    fr_json_describe(fr_json_find(*document, "schema"), found, sizeof found);
    cJSON_Delete(*document);
    *document = NULL;
    fr_fail(error, FR_ERROR_FORMAT, "report: schema: expected forerun.accept/1 or forerun.ab/1, found %s", found);
    return fr_hint(error, FR_ERROR_FORMAT, "a report is made of what forerun accept --json or forerun ab --json printed");
}

const cJSON *fr_report_part(const cJSON *document, const char *key) {
    const cJSON *part = fr_json_find(document, key), *configurations = fr_json_find_array(document, "configurations");
    bool empty = !part || !part->child;
    return empty && configurations ? fr_json_find(configurations->child, key) : part;
}

void fr_report_plain(fr_markup *m, const cJSON *value) {
    if (cJSON_IsString(value)) {
        fr_markup_text(m, value->valuestring);
    } else if (cJSON_IsNumber(value)) {
        bool whole = value->valuedouble == floor(value->valuedouble) && fabs(value->valuedouble) < 1e15;
        fr_markup_format(m, whole ? "%.0f" : "%.6g", value->valuedouble);
    } else if (cJSON_IsBool(value)) {
        fr_markup_raw(m, cJSON_IsTrue(value) ? "yes" : "no");
    } else if (cJSON_IsArray(value)) {
        const cJSON *item;
        cJSON_ArrayForEach(item, value) {
            if (item != value->child) fr_markup_raw(m, ", ");
            fr_report_plain(m, item);
        }
    } else {
        fr_markup_raw(m, "\xE2\x80\x93");
    }
}

static double either(const cJSON *object, const char *one, const char *other) {
    double value = fr_json_find_number(object, one);
    return isfinite(value) ? value : fr_json_find_number(object, other);
}

void fr_report_acceptance(const cJSON *object, double *rate, double *low, double *high) {
    *rate = either(object, "acceptance_rate", "rate");
    fr_json_find_interval(object, "acceptance_rate_ci95", low, high);
    if (!isfinite(*low)) fr_json_find_interval(object, "rate_ci95", low, high);
    if (!isfinite(*low)) fr_json_find_interval(object, "ci95", low, high);
}

void fr_report_configuration(const cJSON *configuration, const cJSON *speculation, double *rate, double *low, double *high) {
    double beside_low, beside_high;
    fr_report_acceptance(speculation, rate, low, high);
    fr_json_find_interval(configuration, "acceptance_rate_ci95", &beside_low, &beside_high);
    if (isfinite(beside_low)) *low = beside_low, *high = beside_high;
}

int fr_report_positions(const cJSON *speculation, fr_point *points, int most) {
    const cJSON *rates = fr_json_find_array(speculation, "per_position_acceptance_rate");
    const cJSON *accepted = fr_json_find_array(speculation, "accepted_per_position");
    double cycles = fr_json_find_number(speculation, "num_drafts");
    int count = 0;
    for (int j = 0; j < cJSON_GetArraySize(rates) && count < most; j++) {
        double rate = fr_json_number_at(rates, j), times = fr_json_number_at(accepted, j);
        if (!isfinite(rate)) continue;
        points[count] = (fr_point){j + 1, rate, NAN, NAN};
        if (cycles > 0 && cycles < 1e15 && times >= 0 && times <= cycles) {
            fr_interval interval = fr_wilson95((uint64_t)times, (uint64_t)cycles);
            points[count].low = interval.low;
            points[count].high = interval.high;
        }
        count++;
    }
    return count;
}
