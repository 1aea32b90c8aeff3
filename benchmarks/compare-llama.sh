#!/bin/sh
# forerun against llama.cpp on one network, in turns: decode without drafts, prefill of 512 tokens, and decode with drafts of the
# network's own MTP module, of which 85 % are right in both. Makes the network, and the GGUF of it for llama.cpp, from a config.
#
#   sh benchmarks/compare-llama.sh [-w DIR] [-c CONFIG] [-t THREADS] [-r ROUNDS] [-n TOKENS] [--isa avx2|avx512|amx] [MODEL GGUF]
#
# -w   keep what is made there and use it again (9 GB); otherwise it is made in a temporary folder and removed
# -c   the config (default: benchmarks/config.json)
# -t   threads of both (default: cores)
# -r   rounds, each with every program once; the first one that does not count aside (default: 5)
# -n   tokens of a text (default: 192)
# MODEL GGUF: take these instead; what their drafts are right in is then their own matter
#
# The figure is a median over the rounds; a ratio is the median of the rounds' ratios. llama.cpp's is its best: Q8_0 or BF16, with and
# without flash attention, and with drafts also 1 to 3 of them or none. --isa holds both to one instruction set: llama.cpp's other
# backends are hidden from it in a mount namespace of its own.
#
# LLAMA_BIN=DIR says where llama-bench, llama-server and llama-quantize are (Debian after 13: package llama.cpp-tools), FORERUN
# (default build/forerun) names the program. Needs python3.
set -eu
usage() { sed -n '2,22s/^# \{0,1\}//p' "$0"; }
here=$(cd "$(dirname "$0")" && pwd)
forerun=${FORERUN:-$here/../build/forerun} config=$here/config.json keep='' threads='' rounds=5 tokens=192 isa=''
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage; exit 0 ;;
    -w | -c | -t | -r | -n | --isa) [ $# -ge 2 ] || { usage >&2; exit 2; } ;;
    -*) usage >&2; exit 2 ;;
    *) break ;;
    esac
    case $1 in -w) keep=$2 ;; -c) config=$2 ;; -t) threads=$2 ;; -r) rounds=$2 ;; -n) tokens=$2 ;; --isa) isa=$2 ;; esac
    shift 2
done
[ $# -eq 0 ] || [ $# -eq 2 ] || { usage >&2; exit 2; }
die() { echo "compare-llama.sh: $*" >&2; exit 1; }

# ---- What is there ------------------------------------------------------------------------------------------------------------

missing=''
tool() {
    [ -z "${LLAMA_BIN:-}" ] || { [ -x "$LLAMA_BIN/$1" ] && echo "$LLAMA_BIN/$1" && return; }
    command -v "$1" || true
}
bench=$(tool llama-bench) server=$(tool llama-server) quantize=$(tool llama-quantize)
[ -n "$bench" ] || missing="$missing llama-bench"
[ -n "$server" ] || missing="$missing llama-server"
[ -n "$quantize" ] || [ $# -eq 2 ] || missing="$missing llama-quantize"
command -v python3 >/dev/null || missing="$missing python3"
[ -x "$forerun" ] || missing="$missing $forerun"
[ -z "$missing" ] || die "not there:$missing. llama.cpp's programs are in Debian's llama.cpp-tools (after Debian 13); LLAMA_BIN=DIR says \
where they are"
[ -n "$threads" ] || threads=$("$forerun" --version | sed -n 's/^threads: \([0-9]*\) .*/\1/p')
[ -n "$threads" ] || die "$forerun does not tell the number of cores: use -t"

work=$(mktemp -d) serving=''
stop_server() {
    [ -n "$serving" ] || return 0
    kill "$serving" 2>/dev/null || true
    wait "$serving" 2>/dev/null || true
    serving=''
}
trap 'stop_server; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
say() { echo "$*" >&2; }

# ---- llama.cpp on one instruction set -------------------------------------------------------------------------------------------

# ggml loads the best of its CPU backends: libggml-cpu-NAME.so of one folder.
loaded_backend() { sed -n 's/.*loaded CPU backend from \(.*\)/\1/p' "$1" | tail -n 1; }
hide='' only=''
if [ -n "$isa" ]; then
    "$bench" --list-devices >"$work/out" 2>"$work/log" </dev/null || true
    backend=$(loaded_backend "$work/log")
    case $isa in avx2) only=haswell ;; avx512) only=zen4 ;; amx) only=sapphirerapids ;; *) die "--isa $isa: expected avx2, avx512 or amx" ;; esac
    case $backend in
    '') say "llama.cpp does not say which CPU backend it takes: that of its build, which --isa $isa does not change" ;;
    *-$only.so) ;;
    *) hide=$(dirname "$backend") ;;
    esac
    [ "$(id -u)" -eq 0 ] && map='' || map=--map-root-user
fi
# Runs a program of llama.cpp with the other backends hidden where they must be: a program that becomes it, so that it can be ended.
llama=$work/llama
cat >"$llama" <<END
#!/bin/sh
[ -n "$hide" ] || exec "\$@"
exec unshare --mount ${map:-} sh -c '
    for file in "$hide"/libggml-cpu-*.so; do
        case \$file in *-$only.so) ;; *) mount --bind /dev/null "\$file" || exit 1 ;; esac
    done
    exec "\$@"' sh "\$@"
END
chmod +x "$llama"
[ -z "$hide" ] || "$llama" true || die "--isa $isa: llama.cpp would take $backend, and its backends cannot be hidden here (unshare --mount): \
set LLAMA_BIN to a build for $isa"

# ---- The network -----------------------------------------------------------------------------------------------------------------

mtp=''
"$server" --help 2>/dev/null | grep -q 'draft-mtp' && mtp=1 || say "this llama.cpp drafts with no MTP module: it is compared without"
if [ $# -eq 2 ]; then
    model=$1 ggufs=$2
else
    folder=${keep:-$work}
    mkdir -p "$folder"
    model=$folder/model bf16=$folder/model-bf16.gguf q8=$folder/model-q8_0.gguf
    if [ ! -e "$model/predictable" ]; then
        say "writing a checkpoint with random weights, and a text that its module guesses 85 % of"
        rm -rf "$model"
        "$forerun" synth --config "$config" --no-mtp-copies -o "$model" -q >&2
        python3 "$here/predictable.py" "$model" >&2
        touch "$model/predictable"
    fi
    if [ ! -e "$q8" ]; then
        say "writing it as GGUF"
        "$forerun" quantize -m "$model" -o "$folder/bf16" --force --to bf16 --shard-bytes 1000000000000 -q >&2
        # shellcheck disable=SC2046 # no word or one
        python3 "$here/gguf.py" $([ -n "$mtp" ] || echo --no-mtp) "$folder/bf16" "$bf16"
        rm -rf "$folder/bf16"
        "$quantize" "$bf16" "$q8.part" Q8_0 "$threads" >"$work/log" 2>&1 || { tail "$work/log" >&2; die "llama-quantize fails"; }
        # With AMX some versions stop at an assertion when these two are quantized.
        if ! "$llama" "$bench" -m "$q8.part" -t "$threads" -p 16 -n 1 -r 1 >"$work/out" 2>"$work/log" </dev/null; then
            say "llama.cpp does not run it in Q8_0 (its last line: $(tail -n 1 "$work/log")): attn_k_b and attn_v_b stay BF16"
            "$quantize" --tensor-type attn_k_b=bf16 --tensor-type attn_v_b=bf16 "$bf16" "$q8.part" Q8_0 "$threads" >"$work/log" 2>&1 ||
                { tail "$work/log" >&2; die "llama-quantize fails"; }
        fi
        mv "$q8.part" "$q8"
    fi
    ggufs=$q8,$bf16
fi

# ---- Measuring -------------------------------------------------------------------------------------------------------------------

prompt=$(awk 'BEGIN { for (i = 3; i < 35; i++) printf "%s%d", (i > 3 ? "," : ""), i }')
echo "{\"id\": \"text\", \"tokens\": [$prompt]}" >"$work/prompt"
set -- # from here on the options of forerun
[ -z "$isa" ] || set -- --isa "$isa"
flat() { awk -f "$here/figures.awk" "$1"; }
# figure PATH: its value in $work/flat.
figure() { awk -v path="$1" '$1 == path { print $2; exit }' "$work/flat"; }
text_of() { flat "$1" | sed -n 's/^tokens\.[0-9]* //p'; } # the tokens

# Each appends lines "what figure [accepted drafted]" to a file of this round.
forerun_prefill() {
    "$forerun" bench -m "$model" -t "$threads" "$@" --only prefill --rows 512 --ctx 32 --json -q >"$work/json"
    flat "$work/json" >"$work/flat"
    used=$(figure isa | tr -d '"')
    echo "prefill $(figure prefill.0.tokens_per_s)" >>"$work/forerun.$round"
}
forerun_texts() {
    "$forerun" ab -m "$model" -t "$threads" "$@" --prompts "$work/prompt" --arms off,on,auto --repeats 1 -n "$tokens" --ignore-eos \
        --no-noise-check --no-learned --json -q >"$work/json"
    flat "$work/json" >"$work/flat"
    for arm in 0 1 2; do
        echo "$(figure "arms.$arm.name" | tr -d '"') $(figure "arms.$arm.decode_tokens_per_s.median")" \
            "$(figure "arms.$arm.speculative_decoding.num_accepted_tokens")" \
            "$(figure "arms.$arm.speculative_decoding.num_draft_tokens")" >>"$work/forerun.$round"
    done
}
llama_bench() { # FILES FLASH PROMPT GENERATE: lines "what figure file flash", the figure a median of three
    "$llama" "$bench" -m "$1" -fa "$2" -t "$threads" -p "$3" -n "$4" -r 3 -o jsonl 2>"$work/log" </dev/null >"$work/jsonl" ||
        { tail -n 20 "$work/log" >&2; die "llama-bench fails"; }
    while read -r line; do
        echo "$line" | flat - >"$work/flat"
        echo "$([ "$(figure n_gen)" -gt 0 ] && echo bench || echo prefill)" \
            "$(sed -n 's/^samples_ts\.[0-9]* //p' "$work/flat" | sort -g | sed -n 2p)" \
            "$(figure model_filename | tr -d '"') $(figure flash_attn)"
    done <"$work/jsonl"
}
port=$((20000 + $$ % 20000))
request() { # PATH [BODY]
    python3 -c 'import sys, urllib.request
body = sys.argv[2].encode() if len(sys.argv) > 2 else None
print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})).read().decode())' \
        "http://127.0.0.1:$port/$1" ${2:+"$2"} 2>/dev/null
}
llama_text() { # NAME FILE FLASH DRAFTS
    name=$1 file=$2 flash=$3 drafts=$4
    set -- -m "$file" -fa "$flash" -t "$threads" -c 1024 -np 1 --host 127.0.0.1 --port "$port"
    [ "$drafts" -eq 0 ] || set -- "$@" --spec-type draft-mtp --spec-draft-n-max "$drafts"
    "$llama" "$server" "$@" >"$work/log" 2>&1 </dev/null &
    serving=$!
    until request health >"$work/out"; do
        kill -0 "$serving" 2>/dev/null || { tail -n 5 "$work/log" >&2; serving=''; return 1; }
        sleep 0.2
    done
    for n in 8 "$tokens"; do # the first is to warm up
        request completion "{\"prompt\": [$prompt], \"n_predict\": $n, \"temperature\": 0, \"ignore_eos\": true,
            \"cache_prompt\": false, \"return_tokens\": true}" >"$work/json" || { tail -n 5 "$work/log" >&2; stop_server; return 1; }
    done
    stop_server
    flat "$work/json" >"$work/flat"
    echo "$name $(figure timings.predicted_per_second) $(figure timings.draft_n_accepted) $(figure timings.draft_n)" >>"$work/llama.$round"
    text_of "$work/json" >"$work/text.llama"
}
best_of() { sort -k2,2gr "$1" | awk -v what="$2" '$1 == what { print $3, $4; exit }'; }

# A first round that does not count: which of its ways is llama.cpp's best, and do both write the same text?
round=0
say "trying llama.cpp's ways"
for file in $(echo "$ggufs" | tr ',' ' '); do
    for flash in 0 1; do llama_bench "$file" "$flash" 512 32 >>"$work/ways"; done
done
backend=$(loaded_backend "$work/log")
decode_way=$(best_of "$work/ways" bench) prefill_way=$(best_of "$work/ways" prefill)
best_drafts=0
if [ -n "$mtp" ]; then
    for drafts in 1 2 3; do
        # shellcheck disable=SC2086 # a file and a number
        llama_text "$drafts" $decode_way "$drafts" || { say "llama.cpp does not run this network's MTP module: it is compared without"; break; }
    done
    [ ! -e "$work/llama.0" ] || best_drafts=$(sort -k2,2gr "$work/llama.0" | awk '{ print $1; exit }')
fi
forerun_prefill "$@"
forerun_texts "$@"
"$forerun" generate -m "$model" -t "$threads" "$@" --prompt-tokens "$prompt" -n "$tokens" --ignore-eos --json -q >"$work/json"
text_of "$work/json" >"$work/text.forerun"
[ "$best_drafts" -eq 0 ] || { cmp -s "$work/text.forerun" "$work/text.llama" && same=' (the same text)' || same=' (the texts differ)'; }

while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    say "round $round of $rounds"
    # shellcheck disable=SC2086 # a file and a number
    {
        forerun_prefill "$@"
        llama_bench $prefill_way 512 0 >>"$work/llama.$round"
        llama_bench $decode_way 0 64 >>"$work/llama.$round"
        [ "$best_drafts" -eq 0 ] || llama_text mtp $decode_way "$best_drafts"
        forerun_texts "$@"
        llama_text off $decode_way 0
    }
done

# ---- The table -------------------------------------------------------------------------------------------------------------------

name_of() { echo "$1" | awk '{ sub(/.*\//, "", $1); print $1 ($2 == 1 || $2 == "true" ? ", flash attention" : "") }'; }
echo "$threads threads, $rounds rounds; forerun $used, llama.cpp $(basename "${backend:-of one build}" .so); load $(cut -d ' ' -f 1-2 /proc/loadavg)"
echo "llama.cpp decodes $(name_of "$decode_way"); prefills $(name_of "$prefill_way")"
for round in $(seq "$rounds"); do
    sed "s/^/$round forerun /" "$work/forerun.$round"
    sed "s/^/$round llama /" "$work/llama.$round"
done | awk -v isa="$used" -v drafts="$best_drafts" -v same="${same:-}" '
    { value[$2, $3, $1] = $4; if ($1 > rounds) rounds = $1; accepted[$2, $3] = $5; drafted[$2, $3] = $6 }
    # The median of what sorted[1..n] holds.
    function median(n,  i, j, x) {
        for (i = 2; i <= n; i++) {
            x = sorted[i]
            for (j = i - 1; j >= 1 && sorted[j] > x; j--) sorted[j + 1] = sorted[j]
            sorted[j + 1] = x
        }
        return (sorted[int((n + 1) / 2)] + sorted[int((n + 2) / 2)]) / 2
    }
    function of(who, what,  r) {
        for (r = 1; r <= rounds; r++) sorted[r] = value[who, what, r]
        return median(rounds)
    }
    function compare(title, ours, theirs, target,  r, ratio, a, b) {
        a = of("forerun", ours); b = of("llama", theirs)
        if (!(a > 0) || !(b > 0)) { print title ": a figure is missing"; bad = 1; return }
        for (r = 1; r <= rounds; r++) sorted[r] = value["forerun", ours, r] / value["llama", theirs, r]
        ratio = median(rounds)
        printf "%-40s %9.2f %11.2f %7.2f  %5.2f to %5.2f", title, a, b, ratio, sorted[1], sorted[rounds]
        if (target) printf "  >= %.2f  %s", target, (ratio >= target ? "met" : sprintf("missed by %.0f %%", 100 * (1 - ratio / target)))
        print ""
    }
    function acceptance(who, what) {
        return drafted[who, what] ? sprintf("%d of %d", accepted[who, what], drafted[who, what]) : "none"
    }
    END {
        plain = of("llama", "off") > of("llama", "bench") ? "off" : "bench"
        best = drafts && of("llama", "mtp") > of("llama", plain) ? "mtp" : plain
        printf "%-40s %9s %11s %7s  %s\n", "tokens/s", "forerun", "llama.cpp", "ratio", "of the rounds   target"
        compare("decode without drafts", "off", plain, 1.0)
        compare("prefill of 512", "prefill", "prefill", isa == "avx2" ? 1.8 : 2.5)
        compare("decode, --mtp on, its best (" (best == "mtp" ? "with" : "without") " drafts)", "on", best, isa == "avx2" ? 1.1 : 1.15)
        compare("decode, --mtp auto, its best", "auto", best, 0)
        if (drafts) compare("decode, --mtp on, its own MTP", "on", "mtp", 0)
        printf "drafts accepted: forerun %s; llama.cpp %s, at most %d a cycle%s\n", acceptance("forerun", "on"), acceptance("llama", "mtp"), drafts, same
        exit bad
    }'
