/* How a page writes its numbers. Private to study/. */
#ifndef FR_STUDY_REPORT_UNIT_H
#define FR_STUDY_REPORT_UNIT_H

typedef enum fr_unit { FR_UNIT_PLAIN, FR_UNIT_PERCENT, FR_UNIT_TIMES, FR_UNIT_MS, FR_UNIT_COUNT } fr_unit;

/* "85.3 %", "1.25x", "3.41 ms": `text` [32]; a dash when the value is not finite. Returns text. */
const char *fr_unit_text(double value, fr_unit unit, char *text);
/* "81.0 to 85.2 %": `text` [72]; a dash when an end is not finite. Returns text. */
const char *fr_range_text(double low, double high, fr_unit unit, char *text);

#endif
