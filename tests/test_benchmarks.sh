#!/bin/sh
# The scripts in benchmarks/: what they print of the figures that programs give them. The programs are made up here, so that each
# figure is known and nothing is measured.
#
#   sh tests/test_benchmarks.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
benchmarks=$here/../benchmarks
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; failed=1; }
failed=0

# ---- Help ---------------------------------------------------------------------------------------------------------------------

for script in "$benchmarks"/*.sh; do
    name=$(basename "$script")
    sh "$script" --help >"$work/out" 2>"$work/err" || fail "$name --help: exit $?"
    [ ! -s "$work/err" ] || fail "$name --help writes on stderr"
    grep -q "^  sh benchmarks/$name" "$work/out" || fail "$name --help does not say how it is called"
    grep -q "$name" "$benchmarks/README.md" || fail "benchmarks/README.md does not mention $name"
    ! tail -n 1 "$work/out" | grep -qE '^set |[({]$' || fail "$name --help prints its program"
    code=0
    sh "$script" --no-such-option >"$work/out" 2>"$work/err" || code=$?
    [ "$code" -ne 0 ] || fail "$name takes any option"
done

# ---- figures.awk: JSON laid flat ------------------------------------------------------------------------------------------------

printf '{"a": 1.5e-3,\t"b": {"c": [true, null, {"d": "x, \\"y\\": z"}, -2], "e": {}},\n "f": [], "g": [[1, 2],[3]]}\n' >"$work/json"
printf '%s\n' 'a 1.5e-3' 'b.c.0 true' 'b.c.1 null' 'b.c.2.d "x, \"y\": z"' 'b.c.3 -2' 'g.0.0 1' 'g.0.1 2' 'g.1.0 3' >"$work/expected"
awk -f "$benchmarks/figures.awk" "$work/json" >"$work/out"
cmp -s "$work/expected" "$work/out" || { fail figures.awk; diff "$work/expected" "$work/out" || true; }

# ---- scaling.sh, chart.awk -------------------------------------------------------------------------------------------------------

# Decoding makes 10 tokens/s with each thread, twice as many with avx512; a pass of n rows takes n ms.
cat >"$work/forerun" <<'END'
#!/bin/sh
[ "$1" != --version ] || { printf '%s\n' 'forerun 9.9' 'CPU: Model & Co' 'instruction sets found: avx2 avx512' 'threads: 4 of 4'; exit 0; }
echo "$*" >>"$0.calls"
while [ $# -gt 0 ]; do
    case $1 in -t) t=$2 ;; --isa) isa=$2 ;; esac
    shift
done
speed=$((10 * t)) passes=''
[ "$isa" = avx2 ] || speed=$((20 * t))
for rows in 1 2 3; do
    passes="$passes${passes:+,}{\"rows\": $rows, \"ms\": $rows, \"over_one_row\": $rows, \"bytes\": $((100 + 10 * rows))}"
done
echo "{\"context\": 128, \"barrier_s\": 0, \"passes\": [$passes], \"prefill\": [],"
echo " \"decode\": {\"tokens_per_s\": $speed, \"tokens_per_s_spread\": {\"p10\": 9, \"p90\": 11}, \"attention\": 0.25}}"
END
chmod +x "$work/forerun"
FORERUN=$work/forerun sh "$benchmarks/scaling.sh" -q -m x -t 1,3,3,16 -o "$work/csv" >"$work/out" || fail "scaling.sh fails"
cmp -s "$work/csv" "$work/out" || fail "scaling.sh prints something else than it writes"
for line in 'avx2,3,decode_tokens_per_s,128,30,9,11' 'avx512,1,decode_tokens_per_s,128,20,9,11' 'avx512,3,pass_ms,2,2,,' \
    'avx2,3,pass_bytes_over_one_row,3,1.18182,,' 'avx2,1,decode_attention,128,0.25,,' '# processor: Model & Co, 4 cores'; do
    grep -qxF "$line" "$work/csv" || { fail "scaling.sh does not write: $line"; cat "$work/csv"; }
done
! grep -q 'barrier_us\|,16,' "$work/csv" || fail "scaling.sh writes what was not measured"
[ "$(wc -l <"$work/forerun.calls")" -eq 4 ] || fail "scaling.sh measures $(wc -l <"$work/forerun.calls") times"
code=0
FORERUN=$work/forerun sh "$benchmarks/scaling.sh" -m x -t 5,6 -o "$work/none" >"$work/out" 2>&1 || code=$?
[ "$code" -eq 2 ] && [ ! -e "$work/none" ] || fail "scaling.sh -t 5,6 on 4 cores"

awk -v chart=threads -f "$benchmarks/chart.awk" "$work/csv" >"$work/svg" || fail "chart.awk: threads"
# The axis begins at 334, is 290 high and ends at 70: a line every 10, one more than 60 needs.
grep -q '<circle cx="564.0" cy="85.4" r="3.5" fill="[#0-9a-f]*"><title>avx512, 3: 60</title>' "$work/svg" ||
    { fail "chart.awk puts a point elsewhere"; cat "$work/svg"; }
grep -qF 'Model &amp; Co' "$work/svg" || fail "chart.awk does not escape text"
awk -v chart=rows -f "$benchmarks/chart.awk" "$work/csv" >"$work/svg" || fail "chart.awk: rows"
[ "$(grep -c '<polyline' "$work/svg")" -eq 3 ] && [ "$(grep -c 'stroke-dasharray' "$work/svg")" -eq 2 ] || fail "chart.awk: rows and bytes"
! awk -v chart=rows -f "$benchmarks/chart.awk" /dev/null >"$work/svg" 2>"$work/err" || fail "chart.awk draws nothing and is content"

# ---- streaming.sh ----------------------------------------------------------------------------------------------------------------

# 100 experts of 1000 bytes. Without drafts 10 tokens/s, in every second run 20; a cache of 25 gives half of that; of all hits its share.
cat >"$work/forerun" <<'END'
#!/bin/sh
echo "$*" >>"$0.streamed"
if [ "$1" = bench ]; then
    echo '{"threads": 1, "disk": {"reader": "none", "bytes_per_s": 2e9},'
    echo ' "memory": {"plan": {"streaming": {"resident_bytes": 5000, "expert_bytes": 1000, "experts": 100}}}}'
    exit 0
fi
while [ $# -gt 0 ]; do
    case $1 in --expert-cache) cache=$2 ;; --weights) weights=$2 ;; esac
    shift
done
speed=$((10 + 10 * ($(grep -c "$weights.*$cache" "$0.streamed") % 2))) hits=1
[ "${cache:-0}" != 25900 ] || { speed=$((speed / 2)) hits=0.25; }
[ "$weights" = stream ] || { echo '{"arms": [{"name": "off", "decode_tokens_per_s": {"median": 4}}]}'; exit 0; }
echo "{\"arms\": [{\"name\": \"off\", \"decode_tokens_per_s\": {\"median\": $speed}, \"experts\": {\"hit_rate\": $hits}},"
echo " {\"name\": \"auto\", \"decode_tokens_per_s\": {\"median\": $((speed * 11))e-1}}],"
echo " \"synthetic\": [{\"target\": 0.85, \"decode_tokens_per_s\": {\"median\": $((speed * 15))e-1}},"
echo " {\"target\": 0, \"decode_tokens_per_s\": {\"median\": $((speed * 5))e-1}}]}"
END
FORERUN=$work/forerun sh "$benchmarks/streaming.sh" -m x -c 0.25,1 -r 3 >"$work/out" 2>"$work/err" || { fail "streaming.sh fails"; cat "$work/err"; }
for line in 'medians of 3 rounds' '0.25 0.250 10.000 1.500 0.500 1.100' '1 1.000 20.000 1.500 0.500 1.100'; do
    tr -s ' ' <"$work/out" | grep -qxF "$line" || { fail "streaming.sh does not say: $line"; cat "$work/out"; }
done
grep -qE '^mapped +- +4.000  \((within 0.25 GiB|memory not limited)\)$' "$work/out" || { fail "streaming.sh: mapped weights"; cat "$work/out"; }
[ "$(grep -c -- '--weights mmap' "$work/forerun.streamed")" -eq 3 ] || fail "streaming.sh does not measure mapped weights in each round"
[ "$(grep -c -- '--expert-cache 25900 ' "$work/forerun.streamed")" -eq 3 ] || fail "streaming.sh: a quarter of the experts and their lists"

# ---- compare-llama.sh ------------------------------------------------------------------------------------------------------------

compare=$benchmarks/compare-llama.sh
code=0
LLAMA_BIN=$work/none PATH=/usr/bin:/bin sh "$compare" -t 1 >"$work/out" 2>"$work/err" || code=$?
if ! command -v llama-bench >/dev/null; then
    [ "$code" -eq 1 ] && grep -q 'not there:.* llama-bench llama-server llama-quantize' "$work/err" ||
        { fail "compare-llama.sh does not say what is missing"; cat "$work/err"; }
fi

if command -v python3 >/dev/null; then
    # forerun decodes 30 tokens/s, 36 with drafts; llama.cpp 24 in Q8_0 with flash attention, 20 with one draft, and prefills 40 in BF16.
    mkdir "$work/llama"
    cat >"$work/forerun" <<'END'
#!/bin/sh
case $1 in
bench) echo '{"isa": "avx2", "prefill": [{"tokens_per_s": 80}]}' ;;
generate) echo '{"tokens": [7, 8]}' ;;
ab) for arm in 'off 30 0 0' 'on 36 85 100' 'auto 33 10 12'; do
        set -- $arm
        arms="$arms${arms:+,}{\"name\": \"$1\", \"decode_tokens_per_s\": {\"median\": $2},
            \"speculative_decoding\": {\"num_accepted_tokens\": $3, \"num_draft_tokens\": $4}}"
    done
    echo "{\"arms\": [$arms]}" ;;
esac
END
    cat >"$work/llama/llama-bench" <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in -m) file=$2 ;; -fa) flash=$2 ;; -p) prompt=$2 ;; -n) generate=$2 ;; esac
    shift
done
echo 'load_backend: loaded CPU backend from /x/libggml-cpu-haswell.so' >&2
prefill=30 decode=20
case $file in *bf16*) prefill=40 decode=10 ;; esac
[ "$flash" = 0 ] || decode=$((decode + 4))
line() { echo "{\"model_filename\": \"$file\", \"flash_attn\": $flash, \"n_gen\": $1, \"samples_ts\": [1, $2.5, 1000]}"; }
[ "$prompt" -eq 0 ] || line 0 $prefill
[ "$generate" -eq 0 ] || line "$generate" $decode
END
    cat >"$work/llama/llama-server" <<'END'
#!/usr/bin/env python3
import http.server, sys
if "--help" in sys.argv:
    sys.exit(print("--spec-type none,draft-mtp"))
option = lambda name, otherwise: sys.argv[sys.argv.index(name) + 1] if name in sys.argv else otherwise
drafts = int(option("--spec-draft-n-max", 0))
speed = {0: 22, 1: 20, 2: 18, 3: 15}[drafts]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"tokens": [7, 8], "timings": {"predicted_per_second": %d, "draft_n": 100, "draft_n_accepted": 85}}' % speed)
http.server.HTTPServer(("127.0.0.1", int(option("--port", 0))), Handler).serve_forever()
END
    chmod +x "$work/forerun" "$work/llama"/*
    LLAMA_BIN=$work/llama FORERUN=$work/forerun sh "$compare" -t 1 -r 2 "$work/model" "$work/q8.gguf,$work/bf16.gguf" >"$work/out" 2>"$work/err" ||
        { fail "compare-llama.sh fails"; cat "$work/err"; }
    for line in 'llama.cpp decodes q8.gguf, flash attention; prefills bf16.gguf' 'decode without drafts 30.00 24.50 1.22 1.22 to 1.22 >= 1.00 met' \
        'prefill of 512 80.00 40.50 1.98 1.98 to 1.98 >= 1.80 met' \
        'decode, --mtp on, its best (without drafts) 36.00 24.50 1.47 1.47 to 1.47 >= 1.10 met' \
        'decode, --mtp on, its own MTP 36.00 20.00 1.80 1.80 to 1.80' \
        'drafts accepted: forerun 85 of 100; llama.cpp 85 of 100, at most 1 a cycle (the same text)'; do
        tr -s ' ' <"$work/out" | grep -qxF "$line" || { fail "compare-llama.sh does not say: $line"; cat "$work/out"; }
    done
    grep -q '^1 threads, 2 rounds; forerun avx2, llama.cpp libggml-cpu-haswell;' "$work/out" || fail "compare-llama.sh: who is compared"
else
    echo "no python3: compare-llama.sh is not tested"
fi

[ "$failed" -eq 0 ] || { echo "the benchmarks' scripts are not as they should be"; exit 1; }
echo "the benchmarks' scripts are as they should be"
