#!/bin/sh
# The contract of `forerun bench`: keys, what is in which part, and that figures agree with each other. No speed is tested.
#
#   FORERUN=build/forerun sh tests/test_cli_bench.sh JSON_CHECK
set -eu
json_check=$1
here=$(cd "$(dirname "$0")" && pwd)
model=$here/golden/pico-mtp-s1 # 320 tokens, hidden 160, 3 layers, 2 of them with 8 experts, top 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; failed=1; }
failed=0

# run EXIT ARGUMENTS...: runs the program; stdout is $work/out, stderr $work/err.
run() {
    expected=$1
    shift
    code=0
    "$FORERUN" bench --seconds 0.001 "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    [ "$code" -eq "$expected" ] || { fail "forerun bench $*: exit $code, expected $expected"; cat "$work/err"; }
}
holds() { "$json_check" "$work/out" "$@" || fail "the document is not as it should be"; }
value() { "$json_check" -p "$work/out" "$1"; }
refused() {
    text=$1
    shift
    run 2 "$@"
    [ ! -s "$work/out" ] || fail "there is output on stdout after: $*"
    grep -q "^forerun: .*$text" "$work/err" || { fail "stderr does not say: $text"; cat "$work/err"; }
}
# items PATH FIRST_KEY: the objects of an array, one a line. In awk, text(KEY) is then the first value of that name.
items() { value "$1" | sed "s/{\"$2\"/\n&/g" | sed 1d; }
get='function text(key) { return match($0, "\"" key "\":[^,}]*") ? substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) : "" }
    function get(key) { return text(key) + 0 }
    function near(a, b) { return a - b < 1e-6 * b && b - a < 1e-6 * b }
    function bad(why) { print why ": " $0; wrong = 1 }
    END { exit wrong || NR == 0 }'

run 0 --help
[ ! -s "$work/err" ] || fail "--help writes on stderr"
grep -q '^Example$' "$work/out" && grep -q -- '--only PART' "$work/out" || fail "--help is incomplete"

refused "no part 'passe'" -m "$model" --only linear,passe
refused 'no part' -m "$model" --only ''
refused 'rows: 0' -m "$model" --rows 1,0
refused 'rows: 4097' -m "$model" --rows 4097
refused 'seconds' -m "$model" --seconds 0
refused 'do not fit' -m "$model" --ctx 2048

# ---- All of it ------------------------------------------------------------------------------------------------------------

run 0 -m "$model" --json -q
[ ! -s "$work/err" ] || fail "-q: stderr is not empty"
holds read_bandwidth_bytes_per_s'>0' read_bandwidth_bytes_per_s_spread.samples'>9' read_buffer_bytes'>0' read_streams'>0' threads'>0' isa:string \
    context=512 complete=true model.mtp=true model.path="$model" linear:array passes#8 prefill#2 contexts#2 \
    passes.0.rows=1 passes.0.over_one_row=1 passes.0.barriers'>20' passes.0.unique_experts=3 passes.7.rows=8 passes.7.unique_experts'>3' \
    passes.7.unique_experts'<8.01' decode.tokens_per_s'>0' decode.bytes_per_token'>100000' decode.of_bandwidth'>0' \
    decode.cached:bool decode.sampling'>0' decode.waiting'>-0.001' decode.waiting'<1' decode.attention'>0' decode.attention'<1' draft.ms'>0' draft.bytes'>100000' draft.over_one_row'>0' draft.of_bandwidth'>0' prefill.0.tokens=128 \
    prefill.1.tokens=512 prefill.0.tokens_per_s'>0' contexts.0.tokens=1024 contexts.1.tokens=2047 contexts.0.ms'>0' \
    contexts.0.attention_ms'>0' contexts.1.attention'>0' contexts.1.attention'<1' contexts.1.waiting'<1'
# Shares of a token are parts of it.
echo "$(value decode.waiting) $(value decode.attention) $(value decode.sampling)" |
    awk '$1 < 0 || $1 + $2 > 1 || $2 + $3 > 1 { exit 1 }' || fail "shares of a token are more than all of it"
bandwidth=$(value read_bandwidth_bytes_per_s)

# 17 kinds of matrices at 5 row counts of decode, all but the LM head at 2 of prefill.
items linear name >"$work/linear"
[ "$(wc -l <"$work/linear")" -eq $((17 * 5 + 16 * 2)) ] || fail "there are $(wc -l <"$work/linear") linears"
awk -v bandwidth="$bandwidth" "$get"'
    { speed = get("bytes_per_s"); size = get("out") * get("in"); operations = 2 * get("rows") * size
      if (text("dtype") == "\"BF16\"") size *= 2
      else if (text("dtype") == "\"F8_E4M3\"") size += 4 * int((get("out") + 127) / 128) * int((get("in") + 127) / 128)
      else bad("dtype") }
    !(speed > 0 && get("p10") <= speed && speed <= get("p90") && get("samples") >= 3) { bad("spread") }
    !near(get("of_bandwidth") * bandwidth, speed) { bad("share of read") }
    !near(get("flops_per_s") / operations, speed / size) { bad("operations and bytes") }
    get("matrices") < 1 { bad("matrices") }' "$work/linear" || fail "linears do not agree"
for kind in q_a_proj q_b_proj kv_a_proj_with_mqa kv_b_proj o_proj mlp.gate_proj mlp.up_proj mlp.down_proj gate \
    experts.gate_proj experts.up_proj experts.down_proj shared_experts.gate_proj shared_experts.up_proj \
    shared_experts.down_proj eh_proj; do
    [ "$(grep -c "^{\"name\":\"$kind\"," "$work/linear")" -eq 7 ] || fail "$kind is not there 7 times"
done
grep '"name":"lm_head"' "$work/linear" | grep -q '"out":320,"in":160,"rows":8,' || fail "the LM head"

items passes rows >"$work/passes"
awk -v bandwidth="$bandwidth" "$get"'
    { ms = get("ms"); if (NR == 1) one = ms }
    !(ms > 0 && get("p10") <= ms && ms <= get("p90")) { bad("spread") }
    !near(get("over_one_row") * one, ms) { bad("over one row") }
    !near(get("of_bandwidth") * bandwidth * ms, 1000 * get("bytes")) { bad("share of read") }
    NR > 1 && get("bytes") < bytes { bad("fewer bytes than with fewer rows") }
    { bytes = get("bytes") }' "$work/passes" || fail "passes do not agree"
# A decoded token reads what a pass of one row reads, but for the KV cache: 3 layers of 48 BF16 values a token.
echo "$(value decode.bytes_per_token) $(value passes.0.bytes) $(value decode.of_bandwidth) $(value decode.tokens_per_s) $bandwidth" |
    awk "$get"'!($1 >= $2 && $1 <= $2 + 128 * 288) || !near($3 * $5, $1 * $4) { bad("decode") }' || fail "decode does not agree"

# ---- Parts ----------------------------------------------------------------------------------------------------------------

run 0 -m "$model" --json -q --only prefill,linear --rows 2,16,2000
holds passes#0 decode=null draft=null contexts#0 prefill#2 prefill.0.tokens=16 prefill.1.tokens=2000 read_bandwidth_bytes_per_s'>0'
[ "$(items linear name | wc -l)" -eq $((17 + 16 * 2)) ] || fail "--rows: linears"
run 0 -m "$model" --json -q --only passes --rows 5 --ctx 7 -t 1
holds passes#2 passes.0.rows=1 passes.1.rows=5 context=7 threads=1 linear#0 prefill#0
run 0 -m "$model" --json -q --only decode --ctx 7 -t 1
holds decode.waiting=0 decode.attention'>0' # nobody to wait for
run 0 -m "$model" --json -q --only decode,draft --ctx 2040 --draft-head fp8 --kv f32
holds decode.tokens_per_s'>0' draft.ms'>0' draft.over_one_row=null passes#0
run 0 -m "$model" --json -q --only linear --rows 1,16 --isa scalar
holds peak=null linear.0.of_peak=null linear.0.of_bandwidth'>0' isa=scalar
mkdir "$work/plain"
for file in "$model"/*; do [ -d "$file" ] || cp "$file" "$work/plain/"; done
sed 's/"num_nextn_predict_layers": 1/"num_nextn_predict_layers": 0/' "$model/config.json" >"$work/config.new"
mv -f "$work/config.new" "$work/plain/config.json"
run 0 -m "$work/plain" --json -q --only draft,context
holds draft=null model.mtp=false contexts.0.attention_ms'>0' '!contexts.0.index_ms'
run 0 -m "$here/golden/pico-v32" --json -q --only context
holds contexts.0.tokens=2048 contexts.0.index_ms'>0'

run 0 -m "$model" --only linear,passes,decode,prefill,draft
for text in '^read  *[0-9.]* GB/s' '^linear, few rows' '^linear, many rows' '^  o_proj  *F8_E4M3  *160 x  *48 ' '^passes after 512 tokens' \
    '^ *1  .* 1.000 ' '^decode  *[0-9.]* tokens/s' '^  of a token: threads wait for each other [0-9.]* %, attention [0-9.]* %' '^prefill$' '^draft '; do
    grep -q "$text" "$work/out" || { fail "the table does not say: $text"; cat "$work/out"; }
done

# ---- Streamed weights: the disk, and what decoding makes of it ----------------------------------------------------------------

run 0 -m "$model" --json -q --only decode --ctx 7
holds disk=null '!decode.experts'
for reader in auto threads; do
    run 0 -m "$model" --json -q --only decode --ctx 7 --weights stream --expert-cache 300K --reader $reader
    holds disk.reader:string disk.expert_bytes=73728 disk.at_once=8 disk.bytes_per_s'>0' disk.bytes_per_s_spread.samples=6 \
        decode.experts.misses'>0' decode.experts.hits'>-1' decode.experts.stalled'>-0.001' decode.experts.stalled'<1' decode.experts.reading'>0' \
        decode.experts.reader="$(value disk.reader | tr -d '"')"
    # 3 of 8 experts in each of 2 layers: six a token, each a hit or a miss.
    echo "$(value decode.experts.read_bytes) $(value decode.experts.read_bytes_per_token) $(value decode.experts.hits) \
        $(value decode.experts.misses) $(value decode.experts.of_disk) $(value disk.bytes_per_s) $(value decode.experts.disk_bytes_per_s)" |
        awk "$get"'{ tokens = ($3 + $4) / 6 } !near($2 * tokens, $1) { bad("bytes a token") } !near($5 * $6, $7) { bad("share of the disk") }' ||
        fail "experts do not agree"
done
run 0 -m "$model" --json -q --only decode --weights stream --expert-cache 1G
holds decode.experts.hits'>0' decode.experts.read_bytes=0 decode.experts.of_disk=null disk.bytes_per_s'>0'
run 0 -m "$model" --only decode --ctx 7 --weights stream --expert-cache 300K
for text in '^disk  *[0-9.]* GB/s .*; experts of 72.00 KiB in order, 8 at once, by ' \
    '^  experts: [0-9.]* % were cached; [0-9.]* KiB read a token, at [0-9.]* GB/s, [0-9]* % of disk, in [0-9.]* % of its time; waited'; do
    grep -q "$text" "$work/out" || { fail "streamed, the table does not say: $text"; cat "$work/out"; }
done

# ---- Interrupted: what was measured until then, as a whole document -----------------------------------------------------------

# Before measuring has begun a signal ends the program without a document: then try again, and wait longer.
for seconds in 1 4 15 60; do
    "$FORERUN" bench -m "$model" --seconds 3600 --only prefill --rows 2000 --isa scalar -t 1 --json >"$work/out" 2>"$work/err" &
    process=$!
    sleep "$seconds"
    kill -INT "$process" || fail "there was nothing to interrupt"
    code=0
    wait "$process" || code=$?
    [ ! -s "$work/out" ] || break
done
[ "$code" -eq 130 ] || fail "interrupted: exit $code"
holds complete=false read_bandwidth_bytes_per_s:number prefill:array passes#0

# ---- The network that llama.cpp is compared on (benchmarks/) ------------------------------------------------------------------

if command -v python3 >/dev/null; then
    sed -e 's/"hidden_size": 2048/"hidden_size": 512/; s/"num_hidden_layers": 8/"num_hidden_layers": 2/; s/"n_routed_experts": 32/"n_routed_experts": 8/' \
        -e 's/"vocab_size": 16384/"vocab_size": 1024/; s/intermediate_size": [0-9]*/intermediate_size": 256/; s/_heads": 16/_heads": 4/' \
        "$here/../benchmarks/config.json" >"$work/small.json"
    "$FORERUN" synth --config "$work/small.json" --no-mtp-copies -o "$work/small" -q >/dev/null
    python3 "$here/../benchmarks/predictable.py" "$work/small" >"$work/told" || fail "predictable.py fails"
    for mtp in on off; do
        "$FORERUN" generate -m "$work/small" --prompt-tokens 3,4,5 -n 400 --ignore-eos --mtp $mtp --json -q >"$work/out" || fail "the network does not run"
        value tokens >"$work/text.$mtp"
        [ "$mtp" = off ] || holds speculative_decoding.num_draft_tokens'>180' speculative_decoding.acceptance_rate'>0.75' \
            speculative_decoding.acceptance_rate'<0.95'
    done
    cmp -s "$work/text.on" "$work/text.off" || fail "the network's text depends on drafts"
    "$FORERUN" quantize -m "$work/small" -o "$work/bf16" --to bf16 -q >/dev/null
    for way in '' --no-mtp; do
        # shellcheck disable=SC2086 # no word or one
        python3 "$here/../benchmarks/gguf.py" $way "$work/bf16" "$work/gguf$way" || fail "gguf.py fails"
        [ "$(head -c 4 "$work/gguf$way")" = GGUF ] || fail "gguf.py writes something else"
    done
    # The module: 8 tensors of attention and norms, kv_b in two, router and bias, 3 of all experts, 3 of the shared one, 4 of its own.
    tensors() { od -An -tu8 -j 8 -N 8 "$1" | tr -d ' '; }
    [ "$(tensors "$work/gguf")" -eq $(($(tensors "$work/gguf--no-mtp") + 22)) ] ||
        fail "gguf.py: $(tensors "$work/gguf") tensors, without the module $(tensors "$work/gguf--no-mtp")"
    # Vectors and routers are twice as large, and there are names of tokens.
    bytes=$("$FORERUN" inspect -m "$work/bf16" --json | awk -f "$here/../benchmarks/figures.awk" | sed -n 's/^bytes.tensor_bytes //p')
    size=$(wc -c <"$work/gguf")
    [ "$size" -ge "$bytes" ] && [ "$size" -le $((bytes + bytes / 50)) ] || fail "gguf.py writes $size bytes of $bytes"
else
    echo "no python3: the network of compare-llama.sh is not tested"
fi

[ "$failed" -eq 0 ] || { echo "bench does not keep its contract"; exit 1; }
echo "bench keeps its contract"
