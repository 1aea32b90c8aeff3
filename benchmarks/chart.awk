# Draws what scaling.sh measured, as SVG.
#
#   awk -v chart=threads -f benchmarks/chart.awk scaling.csv >scaling.svg     decode, tokens/s by threads
#   awk -v chart=rows -f benchmarks/chart.awk scaling.csv >rows.svg           a pass by its rows, over one row, with the most threads
#
# A line for each instruction set, with the rounds' 10th to 90th percentile of tokens/s; dashed: the bytes of a pass over those of one
# row. Exit 1: the file has nothing to draw.
BEGIN {
    FS = ","
    if (chart != "threads" && chart != "rows") fail("chart.awk: say -v chart=threads or -v chart=rows")
    split("#0b62a4 #c2410c #15803d #7e22ce", colours, " ")
    left = 64; top = 44; width = 500; height = 290
}
function fail(why) {
    print why >"/dev/stderr"
    failed = 1
    exit 1
}
function escaped(what) {
    gsub(/&/, "\\&amp;", what)
    gsub(/</, "\\&lt;", what)
    return what
}
function add(series, x, y, low, high) {
    if (!(series in index_of)) {
        index_of[series] = ++count
        name[count] = series
    }
    i = index_of[series]
    n = ++points[i]
    xs[i, n] = x; ys[i, n] = y; lows[i, n] = low; highs[i, n] = high
    if (!(x in seen)) { seen[x] = 1; ticks[++num_ticks] = x }
    if (x > most_x) most_x = x
    if (y > most_y) most_y = y
    if (high > most_y) most_y = high
}
/^# processor: / { processor = escaped(substr($0, 14)) }
/^#/ || $1 == "isa" { next }
chart == "threads" && $3 == "decode_tokens_per_s" { add($1, $2, $5, $6, $7) }
chart == "rows" && $3 ~ /^pass_/ { row[++num_rows] = $0; if ($2 + 0 > threads) threads = $2 + 0 }

# A round number of at least this size, for distances between lines of the grid.
function round_up(x,  unit) {
    for (unit = 1; unit * 10 <= x; unit *= 10);
    while (unit > x) unit /= 10
    return unit * (x <= unit ? 1 : x <= 2 * unit ? 2 : x <= 5 * unit ? 5 : 10)
}
function px(x) { return sprintf("%.1f", left + width * (x - first_x) / (last_x - first_x)) }
function py(y) { return sprintf("%.1f", top + height * (1 - y / last_y)) }
function text(x, y, anchor, what) { printf "<text x=\"%s\" y=\"%s\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, what }
function line(x1, y1, x2, y2, style) { printf "<line x1=\"%s\" y1=\"%s\" x2=\"%s\" y2=\"%s\" %s/>\n", x1, y1, x2, y2, style }
function draw_axes(title, x_label,  y, step, i) {
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\">\n", left + width + 126, top + height + 62
    print "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    printf "<text x=\"%d\" y=\"24\" font-size=\"15\" font-weight=\"bold\">%s</text>\n", left, title
    step = round_up(most_y / 6)
    last_y = step * (int(most_y / step) + 1)
    for (y = 0; y <= last_y * 1.0001; y += step) {
        line(left, py(y), left + width, py(y), "stroke=\"#ddd\"")
        text(left - 8, py(y) + 4, "end", y)
    }
    for (i = 1; i <= num_ticks; i++) {
        line(px(ticks[i]), top + height, px(ticks[i]), top + height + 5, "stroke=\"#555\"")
        text(px(ticks[i]), top + height + 20, "middle", ticks[i])
    }
    line(left, top + height, left + width, top + height, "stroke=\"#555\"")
    text(left + width / 2, top + height + 38, "middle", x_label)
    printf "<text x=\"%d\" y=\"%d\" font-size=\"11\" fill=\"#555\">%s</text>\n", left, top + height + 56, processor
}
function draw_series(i,  n, path, dashed, colour) {
    dashed = name[i] == "bytes"
    colour = dashed ? "#555" : colours[(num_colours++) % 4 + 1]
    for (n = 1; n <= points[i]; n++) path = path (n > 1 ? " " : "") px(xs[i, n]) "," py(ys[i, n])
    printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s/>\n", path, colour, dashed ? " stroke-dasharray=\"5 4\"" : ""
    for (n = 1; n <= points[i] && !dashed; n++) {
        if (lows[i, n] != "") line(px(xs[i, n]), py(lows[i, n]), px(xs[i, n]), py(highs[i, n]), "stroke=\"" colour "\"")
        printf "<circle cx=\"%s\" cy=\"%s\" r=\"3.5\" fill=\"%s\"><title>%s, %s: %s</title></circle>\n", px(xs[i, n]), py(ys[i, n]), colour, name[i], xs[i, n], ys[i, n]
    }
    line(left + width + 12, top + 20 * i - 4, left + width + 36, top + 20 * i - 4, "stroke=\"" colour "\" stroke-width=\"2\"" (dashed ? " stroke-dasharray=\"5 4\"" : ""))
    text(left + width + 42, top + 20 * i, "start", name[i])
}
END {
    if (failed) exit 1
    for (r = 1; r <= num_rows; r++) {
        split(row[r], f, ",")
        if (f[2] + 0 != threads) continue
        if (f[3] == "pass_over_one_row") add(f[1], f[4], f[5], "", "")
        if (bytes_of == "" || bytes_of == f[1])
            if (f[3] == "pass_bytes_over_one_row") { bytes_of = f[1]; add("bytes", f[4], f[5], "", "") }
    }
    if (!count) fail("chart.awk: no figures to draw")
    first_x = chart == "rows" ? 1 : 0
    last_x = most_x > first_x ? most_x : first_x + 1
    if (chart == "threads") draw_axes("Decode without drafts, tokens/s", "threads")
    else draw_axes("Time of a pass over that of one row, " threads " threads", "rows")
    for (i = 1; i <= count; i++) draw_series(i)
    print "</svg>"
}
