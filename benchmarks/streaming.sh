#!/bin/sh
# What a cache of routed experts is worth, and drafts with it: decode while experts are streamed from the disk, by the share of them
# that the cache holds, without drafts (off), with one (on:1) and with auto, at given rates of acceptance.
#
#   sh benchmarks/streaming.sh [-m MODEL_DIR] [-c SHARES] [-a ACCEPTANCES] [-n TOKENS] [-r ROUNDS] [-t THREADS] [-s SECONDS] [-l BYTES]
#
# -m   a checkpoint with an MTP module; without it one is made from benchmarks/config.json (2.4 GB) and removed again
# -c   shares of all experts that the cache holds (default: 0.1,0.25,0.5,1)
# -a   rates of acceptance (default: 0.85,0)
# -n   tokens of a text (default: 32)
# -r   rounds, at least: in each every share has its turn, and in a turn every arm (default: 3)
# -s   rounds do not begin after so many seconds in all (default: 180)
# -l   memory of mapped weights, the reference (default: what streaming takes at the first share); needs root and control groups,
#      version 1 or 2. Where none can be made, mapped weights have the page cache to themselves, and a line says so.
#
# FORERUN (default build/forerun) names the program; TMPDIR has the model that is made. Each figure is a median of rounds, each ratio
# of the ratios within rounds. Drafts at a rate are those of `forerun ab --synthetic-acceptance`: right with that chance, with the
# module running; auto cannot be told what to accept, and drafts with the model's own acceptance, which is 0 with random weights.
set -eu
usage() { sed -n '2,19s/^# \{0,1\}//p' "$0"; }
here=$(cd "$(dirname "$0")" && pwd)
forerun=${FORERUN:-$here/../build/forerun}
model='' shares=0.1,0.25,0.5,1 acceptances=0.85,0 tokens=32 rounds=3 threads='' seconds=180 limit=''
[ "${1:-}" != --help ] || { usage; exit 0; }
while getopts m:c:a:n:r:t:s:l:h option; do
    case $option in
    m) model=$OPTARG ;;
    c) shares=$OPTARG ;;
    a) acceptances=$OPTARG ;;
    n) tokens=$OPTARG ;;
    r) rounds=$OPTARG ;;
    t) threads=$OPTARG ;;
    s) seconds=$OPTARG ;;
    l) limit=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done
[ $# -lt "$OPTIND" ] || { usage >&2; exit 2; }
[ -x "$forerun" ] || { echo "streaming.sh: no program at $forerun" >&2; exit 1; }

work=$(mktemp -d) group='' began=$(date +%s)
clean() {
    [ -z "$group" ] || rmdir "$group" 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM
if [ -z "$model" ]; then
    model=$work/model
    "$forerun" synth --config "$here/config.json" -o "$model" -q >/dev/null
fi
common="-m $model -q --json ${threads:+-t $threads}"

# ---- How large a cache is ------------------------------------------------------------------------------------------------------

# shellcheck disable=SC2086 # options are words
"$forerun" bench $common --only decode --ctx 16 --seconds 0.01 --weights stream >"$work/json"
awk -f "$here/figures.awk" "$work/json" >"$work/plan"
plan() { sed -n "s/^$1 //p" "$work/plan"; }
experts=$(plan memory.plan.streaming.experts) expert_bytes=$(plan memory.plan.streaming.expert_bytes)
resident=$(plan memory.plan.streaming.resident_bytes)
[ -n "$experts" ] || { echo "streaming.sh: $model has no experts that can be streamed" >&2; exit 1; }
echo "$experts experts of $expert_bytes bytes; $(plan threads) threads; disk" \
    "$(plan disk.bytes_per_s | awk '{ printf "%.2f", $1 / 1e9 }') GB/s by $(plan disk.reader | tr -d '"'); $tokens tokens a text"

# cache_bytes SHARE: of slots for that many experts, and of the lists beside them, which take less than one slot.
cache_bytes() {
    awk -v share="$1" -v experts="$experts" -v bytes="$expert_bytes" 'BEGIN {
        slots = int(share * experts + 0.5); printf "%.0f", (slots < 1 ? 1 : slots) * bytes + (share < 1 ? 0.9 : 2) * bytes }'
}

# ---- A group that limits the reference's memory ---------------------------------------------------------------------------------

first=${shares%%,*}
: "${limit:=$(awk -v a="$resident" -v b="$(cache_bytes "$first")" 'BEGIN { printf "%.0f", a + b + 256 * 1048576 }')}"
# limit_in FOLDER FILE: makes the group below FOLDER.
limit_in() {
    mkdir "$1/forerun-$$" 2>/dev/null || return 1
    group=$1/forerun-$$
    { echo "$limit" >"$group/$2"; } 2>/dev/null && return
    rmdir "$group"
    group=''
    return 1
}
limit_in /sys/fs/cgroup memory.max || limit_in /sys/fs/cgroup/memory memory.limit_in_bytes ||
    echo "mapped weights are not limited: no control group for memory can be made here"
# In the group, if there is one. What the page cache has of the model is given up first, so that the group pays for its own pages.
limited() {
    [ -n "$group" ] || { "$@"; return; }
    for shard in "$model"/*.safetensors; do dd if="$shard" iflag=nocache count=0 status=none 2>/dev/null || true; done
    sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"
}

# ---- Rounds ---------------------------------------------------------------------------------------------------------------------

# measure SHARE PROGRAM...: lines "ROUND SHARE NAME tokens/s hit-rate" of the arms, which the program makes in turns.
measure() {
    share=$1
    shift
    "$@" --prompt-tokens 5,6,7,8 -n "$tokens" --ignore-eos --repeats 1 --warm-up 1 --no-noise-check --no-learned \
        >"$work/json" 2>"$work/error" || { echo "streaming.sh: at $share:" >&2; cat "$work/error" >&2; return 1; }
    awk -f "$here/figures.awk" "$work/json" | awk -v round="$round" -v share="$share" '
        { split($1, key, "."); at = key[1] "." key[2]; gsub(/"/, "", $2) }
        $1 ~ /^arms\.[0-9]+\.name$/ { name[at] = $2 }
        $1 ~ /^synthetic\.[0-9]+\.target$/ { name[at] = "at:" $2 }
        $1 ~ /^(arms|synthetic)\.[0-9]+\.decode_tokens_per_s\.median$/ { speed[at] = $2 }
        $1 ~ /^arms\.[0-9]+\.experts\.hit_rate$/ { hits[at] = $2 }
        END { for (at in speed) print round, share, name[at], speed[at], at in hits ? hits[at] : "-" }' >>"$work/all"
}
round=0
# shellcheck disable=SC2086
while [ "$round" -lt "$rounds" ] && { [ "$round" -eq 0 ] || [ $(($(date +%s) - began)) -lt "$seconds" ]; }; do
    for share in $(echo "$shares" | tr ',' ' '); do
        measure "$share" "$forerun" ab $common --arms off,auto --synthetic-acceptance "$acceptances" --weights stream \
            --expert-cache "$(cache_bytes "$share")"
    done
    measure mapped limited "$forerun" ab $common --arms off --weights mmap
    round=$((round + 1))
done

# ---- The table --------------------------------------------------------------------------------------------------------------------

awk -v shares="$shares" -v acceptances="$acceptances" -v limit="${group:+$limit}" -v rounds="$round" '
    { speed[$1, $2, $3] = $4; hits[$1, $2, $3] = $5 }
    # The median over rounds of a figure, or (over: another arm) of a ratio; "-" where there is none.
    function median(share, arm, over, what,  n, r, i, v, x) {
        for (r = 0; r < rounds; r++) {
            if (!((r, share, arm) in speed) || (what == "hits" && hits[r, share, arm] !~ /^[0-9]/)) continue
            x = what == "hits" ? hits[r, share, arm] : over == "" ? speed[r, share, arm] : speed[r, share, arm] / speed[r, share, over]
            for (i = n++; i > 0 && v[i - 1] > x; i--) v[i] = v[i - 1]
            v[i] = x
        }
        return n ? sprintf("%.3f", n % 2 ? v[(n - 1) / 2] : (v[n / 2 - 1] + v[n / 2]) / 2) : "-"
    }
    END {
        count = split(shares, share, ",")
        rates = split(acceptances, rate, ",")
        printf "\nmedians of %d rounds\n%-8s %9s %13s", rounds, "cache", "hit rate", "off, tokens/s"
        for (i = 1; i <= rates; i++) printf " %18s", "on:1/off at " rate[i]
        printf " %9s\n", "auto/off"
        for (s = 1; s <= count; s++) {
            printf "%-8s %9s %13s", share[s], median(share[s], "off", "", "hits"), median(share[s], "off", "")
            for (i = 1; i <= rates; i++) printf " %18s", median(share[s], "at:" rate[i], "off")
            printf " %9s\n", median(share[s], "auto", "off")
        }
        printf "%-8s %9s %13s  (%s)\n", "mapped", "-", median("mapped", "off", ""),
            limit ? sprintf("within %.2f GiB", limit / 1073741824) : "memory not limited"
    }' "$work/all"
